// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/shard_scan.h"

#include <algorithm>
#include <memory>
#include <optional>

#include "espalier/base/error.h"
#include "espalier/io/sha256.h"

namespace espalier::extract {
namespace {

/// Of one request. Large enough for a disk and an object store, small beside a shard.
constexpr int64_t kPiece = int64_t{4} << 20;

/// Tables of a shard, all of them.
struct Tables {
  std::vector<int32_t> token_ids, positions;
  std::vector<int64_t> samples, offsets;
};

Tables read_tables(const ShardFile& file) {
  const int64_t tokens = file.layout().tokens;
  return {.token_ids = file.token_ids(0, tokens),
          .positions = file.positions(0, tokens),
          .samples = file.sample_indices(0, tokens),
          .offsets = file.offsets()};
}

/// Samples follow each other, and the tokens of each are next to each other.
void check_tables(const ShardFile& file, const Tables& t, std::vector<std::string>& wrong) {
  const ShardLayout& layout = file.layout();
  int64_t token = 0;
  bool right = t.offsets.front() == 0;
  for (int64_t s = 0; s < layout.samples && right; ++s) {
    const int64_t end = t.offsets[static_cast<size_t>(s + 1)], begin = token;
    right = end > token && end <= layout.tokens;
    for (; right && token < end; ++token) {
      const auto at = static_cast<size_t>(token);
      right = t.samples[at] == layout.first_sample + s && t.token_ids[at] >= 0 &&
              t.positions[at] >= 0 &&
              (token == begin || t.positions[at] == t.positions[at - 1] + 1);
    }
  }
  if (!right || token != layout.tokens) {
    wrong.push_back(
        fmt::format("{}: offsets, sample_index, position and token_ids disagree", file.label()));
  }
}

/// The statistics of one activation, whose bytes come in pieces.
class ActivationPass {
 public:
  ActivationPass(const ShardFile& file, size_t hook)
      : file_(file),
        hook_(hook),
        statistics_(file.layout().width),
        compressed_(file.layout().compression != Compression::none) {}

  size_t hook() const { return hook_; }
  const ByteRange& range() const { return file_.layout().activations[hook_]; }
  HookStatistics& statistics() { return statistics_; }

  void take(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const size_t unit = next_unit();
      if (!carried_.empty() || bytes.size() < unit) {
        const size_t count = std::min(unit - carried_.size(), bytes.size());
        carried_.insert(carried_.end(), bytes.begin(),
                        bytes.begin() + static_cast<std::ptrdiff_t>(count));
        bytes = bytes.subspan(count);
        if (carried_.size() < unit) return;
        use(carried_);
        carried_.clear();
        continue;
      }
      const size_t whole = compressed_ ? unit : bytes.size() / unit * unit;
      use(bytes.first(whole));
      bytes = bytes.subspan(whole);
    }
  }

 private:
  /// A row, or the next frame.
  size_t next_unit() const {
    if (!compressed_) return static_cast<size_t>(file_.layout().row_bytes());
    const auto begins = file_.frames(hook_).subspan(static_cast<size_t>(row_ / kFrameRows));
    return static_cast<size_t>(begins[1] - begins[0]);
  }

  void use(std::span<const std::byte> bytes) {
    const ShardLayout& layout = file_.layout();
    if (!compressed_) {
      statistics_.add(bytes, layout.dtype, row_);
      row_ += std::ssize(bytes) / layout.row_bytes();
      return;
    }
    const int64_t rows = std::min(kFrameRows, layout.tokens - row_);
    rows_.resize(static_cast<size_t>(rows * layout.row_bytes()));
    decoder_.decode(bytes, size_of(layout.dtype), rows_, file_.where(hook_, row_ / kFrameRows));
    statistics_.add(rows_, layout.dtype, row_);
    row_ += rows;
  }

  const ShardFile& file_;
  size_t hook_;
  HookStatistics statistics_;
  bool compressed_;
  int64_t row_ = 0;
  std::vector<std::byte> carried_, rows_;
  FrameDecoder decoder_;
};

class Scan {
 public:
  Scan(Store& store, const ManifestEntry& entry, const ScanOptions& options)
      : store_(store), entry_(entry), o_(options), key_(shard_key(entry.shard)) {}

  ShardScan run() {
    const std::optional<int64_t> size = store_.size(key_);
    if (size != entry_.bytes) {
      result_.damaged = true;
      say(size ? fmt::format("{} has {} bytes, the manifest {}", where(), *size, entry_.bytes)
               : fmt::format("{} is missing", where()));
      return std::move(result_);
    }
    look([&] { open(); });
    stream();
    if (file_ && content_) finish();
    return std::move(result_);
  }

 private:
  std::string where() const { return store_.where(key_); }
  void say(std::string line) { result_.wrong.push_back(std::move(line)); }

  /// What the file's bytes cause is a finding, and the end of looking into them.
  template <typename Look>
  void look(const Look& look) {
    try {
      look();
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::data) throw;
      say(error.what());
      content_ = false;
    }
  }

  void open() {
    file_.emplace(store_, entry_);
    const ShardLayout& layout = file_->layout();
    result_.dtype = layout.dtype;
    result_.compression = layout.compression;
    result_.width = layout.width;
    tables_ = read_tables(*file_);
    check_tables(*file_, tables_, result_.wrong);
    for (const size_t hook : select_hooks(layout.hooks, o_.hooks)) {
      passes_.push_back(std::make_unique<ActivationPass>(*file_, hook));
    }
  }

  /// Everything from the first byte to the last, or what the activations need.
  void stream() {
    std::vector<std::byte> buffer(static_cast<size_t>(std::min(kPiece, entry_.bytes)));
    io::Sha256 sum;
    for (int64_t begin = 0; begin < entry_.bytes; begin += kPiece) {
      const auto piece =
          std::span(buffer).first(static_cast<size_t>(std::min(kPiece, entry_.bytes - begin)));
      if (o_.checksums || is_needed(begin, std::ssize(piece))) {
        store_.read(key_, begin, piece);
        if (o_.checksums) sum.write(piece);
        if (content_) look([&] { hand_out(begin, piece); });
      }
      if (o_.read) o_.read(std::ssize(piece));
    }
    if (o_.checksums && sum.hex() != entry_.sha256) {
      result_.damaged = true;
      say(fmt::format("{}: its checksum is not the manifest's", where()));
    }
  }

  bool is_needed(int64_t begin, int64_t bytes) const {
    return content_ && std::any_of(passes_.begin(), passes_.end(), [&](const auto& pass) {
             return pass->range().begin < begin + bytes &&
                    pass->range().begin + pass->range().bytes > begin;
           });
  }

  void hand_out(int64_t begin, std::span<const std::byte> piece) {
    const int64_t end = begin + std::ssize(piece);
    for (const auto& pass : passes_) {
      const int64_t from = std::max(begin, pass->range().begin);
      const int64_t to = std::min(end, pass->range().begin + pass->range().bytes);
      if (from < to) {
        pass->take(
            piece.subspan(static_cast<size_t>(from - begin), static_cast<size_t>(to - from)));
      }
    }
  }

  TokenPlace place(int64_t token) const {
    const auto at = static_cast<size_t>(token);
    TokenPlace place{.sample = tables_.samples[at],
                     .position = tables_.positions[at],
                     .token_id = tables_.token_ids[at]};
    const int64_t here = place.sample - file_->layout().first_sample;
    if (here >= 0 && here < file_->layout().samples) {
      place.sample_id = file_->layout().sample_ids[static_cast<size_t>(here)];
    }
    return place;
  }

  void finish() {
    for (const auto& pass : passes_) {
      HookScan hook{file_->layout().hooks[pass->hook()], std::move(pass->statistics()), {}};
      const HookStatistics& s = hook.statistics;
      for (const Outlier& token : s.largest()) hook.places.push_back(place(token.index));
      if (s.not_finite() > 0) {
        const TokenPlace first = place(s.first_not_finite());
        say(
            fmt::format("{}: {} values are NaN or infinite, the first in sample {} ({}) at "
                        "position {}",
                        file_->where(pass->hook()), s.not_finite(), first.sample, first.sample_id,
                        first.position));
      }
      result_.hooks.push_back(std::move(hook));
    }
  }

  Store& store_;
  const ManifestEntry& entry_;
  const ScanOptions& o_;
  std::string key_;
  ShardScan result_;
  bool content_ = true;  // nothing was found that keeps from reading on
  std::optional<ShardFile> file_;
  Tables tables_;
  std::vector<std::unique_ptr<ActivationPass>> passes_;
};

}  // namespace

ShardScan scan_shard(Store& store, const ManifestEntry& entry, const ScanOptions& options) {
  return Scan(store, entry, options).run();
}

}  // namespace espalier::extract
