// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/shard.h"

#include <algorithm>
#include <cstdlib>
#include <map>

#include "espalier/base/checked.h"
#include "espalier/base/error.h"
#include "espalier/base/parallel.h"
#include "espalier/io/json.h"
#include "espalier/io/safetensors.h"
#include "espalier/io/sha256.h"
#include "espalier/tensor/convert.h"

namespace espalier::extract {
namespace {

using Json = nlohmann::ordered_json;

/// Values that are converted and looked at while they are in the cache.
constexpr int64_t kPiece = 4096;

/// Passes bytes on, counting and summing them.
class Summed final : public io::ByteSink {
 public:
  explicit Summed(io::ByteSink& out) : out_(out) {}
  using io::ByteSink::write;
  void write(std::span<const std::byte> bytes) override {
    // Pieces that stay in the cache between the checksum and the copy into the kernel.
    constexpr size_t kBytes = size_t{1} << 20;
    while (!bytes.empty()) {
      const auto piece = bytes.first(std::min(kBytes, bytes.size()));
      sum_.write(piece);
      out_.write(piece);
      count_ += static_cast<int64_t>(piece.size());
      bytes = bytes.subspan(piece.size());
    }
  }
  std::string label() const override { return out_.label(); }
  int64_t count() const { return count_; }
  std::string hex() { return sum_.hex(); }

 private:
  io::ByteSink& out_;
  io::Sha256 sum_;
  int64_t count_ = 0;
};

/// Memory that `put` fills: no page is touched before.
HostTensor uninitialized(DType dtype, const Shape& shape) {
  const int64_t bytes = checked_mul(shape.numel(), size_of(dtype),
                                    {ErrorKind::user, "shard", "the size of an activation"});
  void* memory = std::aligned_alloc(64, (static_cast<size_t>(bytes) + 63) / 64 * 64);
  ESPALIER_CHECK(memory != nullptr, ErrorKind::device, "memory",
                 "cannot allocate {} bytes for {}; make shards smaller", bytes, shape.str());
  return HostTensor(dtype, shape, memory, std::shared_ptr<void>(memory, std::free));
}

std::span<const std::byte> bytes_of(const HostTensor& tensor) {
  return {static_cast<const std::byte*>(tensor.data()), static_cast<size_t>(tensor.bytes())};
}

}  // namespace

/// What the file holds, in pieces that lie elsewhere or are its own.
struct Shard::Tensor {
  io::SafetensorsSpec spec;
  std::vector<std::span<const std::byte>> pieces;
  HostTensor own = {};
};

Shard::Shard(int64_t index, int64_t first_sample, std::span<const Sample> samples,
             std::vector<std::string> hooks, int64_t width, DType dtype, ShardOptions options)
    : index_(index),
      first_sample_(first_sample),
      width_(width),
      samples_(samples),
      hooks_(std::move(hooks)),
      dtype_(dtype),
      options_(options),
      offsets_{0} {
  for (const Sample& sample : samples) {
    offsets_.push_back(offsets_.back() + static_cast<int64_t>(sample.tokens.size()));
  }
  for (size_t i = 0; i < hooks_.size(); ++i) {
    activations_.push_back(uninitialized(dtype, Shape{tokens(), width}));
  }
}

bool Shard::put(size_t hook, int64_t sample, const float* rows) {
  const int64_t begin = offsets_[static_cast<size_t>(sample)] * width_;
  const int64_t count = offsets_[static_cast<size_t>(sample) + 1] * width_ - begin;
  auto* out = static_cast<std::byte*>(activations_[hook].data()) + begin * size_of(dtype_);
  int64_t bad = 0, first = -1;
  for (int64_t i = 0; i < count; i += kPiece) {
    const int64_t piece = std::min(kPiece, count - i);
    std::byte* to = out + i * size_of(dtype_);
    round_values(rows + i, piece, dtype_, to);
    const int64_t here = count_not_finite(to, dtype_, piece);
    for (int64_t j = 0; here > 0 && first < 0; ++j) {
      if (count_not_finite(to + j * size_of(dtype_), dtype_, 1) > 0) first = (i + j) / width_;
    }
    bad += here;
  }
  put_.fetch_add(1);
  if (bad == 0) return true;
  const std::lock_guard lock(mutex_);
  if (!not_finite_ || std::pair(sample, hook) < std::pair(not_finite_->sample, not_finite_->hook)) {
    not_finite_ = {.sample = sample, .token = first, .values = bad, .hook = hook};
  }
  return false;
}

void Shard::check_finite() const {
  if (!not_finite_ || options_.keep_not_finite) return;
  fail(ErrorKind::data, "extract",
       "{} of sample {} (number {} of the run) has {} values that are NaN or beyond {}, the first "
       "at its token {}; check the model's weights, or compute and store in another dtype",
       hooks_[not_finite_->hook], samples_[static_cast<size_t>(not_finite_->sample)].id,
       first_sample_ + not_finite_->sample, not_finite_->values, espalier::name(dtype_),
       not_finite_->token);
}

void Shard::encode() {
  if (options_.compression == Compression::none || encoded()) return;
  const int64_t count = frames_of(tokens());
  const int64_t frame_bytes = kFrameRows * width_ * size_of(dtype_);
  // Encoders are dear to make; each is used by one thread at a time.
  std::vector<std::unique_ptr<FrameEncoder>> idle;
  std::mutex mutex;
  frames_.resize(hooks_.size());
  for (size_t hook = 0; hook < hooks_.size(); ++hook) {
    const auto values = bytes_of(activations_[hook]);
    std::vector<std::vector<std::byte>>& frames = frames_[hook];
    frames.resize(static_cast<size_t>(count));
    parallel_for(count, options_.threads, [&](int64_t i) {
      std::unique_ptr<FrameEncoder> encoder;
      {
        const std::lock_guard lock(mutex);
        if (!idle.empty()) {
          encoder = std::move(idle.back());
          idle.pop_back();
        }
      }
      if (!encoder) encoder = std::make_unique<FrameEncoder>();
      const auto begin = static_cast<size_t>(i * frame_bytes);
      const size_t size = std::min(static_cast<size_t>(frame_bytes), values.size() - begin);
      frames[static_cast<size_t>(i)] =
          encoder->encode(values.subspan(begin, size), size_of(dtype_));
      const std::lock_guard lock(mutex);
      idle.push_back(std::move(encoder));
    });
    activations_[hook] = HostTensor();
  }
}

std::vector<Shard::Tensor> Shard::tables() const {
  HostTensor ids(DType::i32, {tokens()}), positions(DType::i32, {tokens()});
  HostTensor indices(DType::i64, {tokens()}), offsets(DType::i64, {std::ssize(offsets_)});
  size_t at = 0;
  for (size_t s = 0; s < samples_.size(); ++s) {
    const Sample& sample = samples_[s];
    for (size_t i = 0; i < sample.tokens.size(); ++i, ++at) {
      ids.as<int32_t>()[at] = sample.tokens[i];
      positions.as<int32_t>()[at] =
          static_cast<int32_t>(sample.first_position) + static_cast<int32_t>(i);
      indices.as<int64_t>()[at] = first_sample_ + static_cast<int64_t>(s);
    }
  }
  std::copy(offsets_.begin(), offsets_.end(), offsets.as<int64_t>().begin());
  std::vector<Tensor> tables;
  const auto add = [&](const std::string& name, const HostTensor& tensor) {
    tables.push_back({{name, tensor.dtype(), tensor.shape()}, {bytes_of(tensor)}, tensor});
  };
  add("token_ids", ids);
  add("position", positions);
  add("sample_index", indices);
  add("offsets", offsets);
  for (size_t hook = 0; hook < frames_.size(); ++hook) {
    HostTensor begins(DType::i64, {std::ssize(frames_[hook]) + 1});
    for (size_t i = 0; i < frames_[hook].size(); ++i) {
      begins.as<int64_t>()[i + 1] = begins.as<int64_t>()[i] + std::ssize(frames_[hook][i]);
    }
    add(hooks_[hook] + std::string(kFramesSuffix), begins);
  }
  return tables;
}

std::vector<Shard::Tensor> Shard::activations() const {
  std::vector<Tensor> tensors;
  for (size_t hook = 0; hook < hooks_.size(); ++hook) {
    Tensor tensor{{hooks_[hook], dtype_, {tokens(), width_}}, {}};
    if (encoded()) {
      int64_t bytes = 0;
      for (const std::vector<std::byte>& frame : frames_[hook]) {
        bytes += std::ssize(frame);
        tensor.pieces.emplace_back(frame);
      }
      tensor.spec = {hooks_[hook], DType::u8, {bytes}};
    } else {
      tensor.pieces.push_back(bytes_of(activations_[hook]));
    }
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

std::vector<std::pair<std::string, std::string>> Shard::metadata() const {
  Json ids = Json::array(), lengths = Json::array(), augmentations = Json::array();
  for (const Sample& sample : samples_) {
    ids.push_back(sample.id);
    lengths.push_back(sample.tokens.size());
    augmentations.push_back(
        sample.augmentation.empty() ? Json() : io::parse_ordered_json(sample.augmentation));
  }
  return {{"format", std::string(kShardFormat)},
          {"hooks", Json(hooks_).dump()},
          {"dtype", std::string(espalier::name(dtype_))},
          {"width", std::to_string(width_)},
          {"compression", std::string(name(options_.compression))},
          {"frame_rows", std::to_string(kFrameRows)},
          {"first_sample", std::to_string(first_sample_)},
          {"sample_ids", ids.dump()},
          {"lengths", lengths.dump()},
          {"augmentations", augmentations.dump()}};
}

bool Shard::commit(Store& store) {
  ESPALIER_ASSERT(put_ == std::ssize(hooks_) * std::ssize(samples_));
  check_finite();
  encode();
  std::map<std::string, Tensor> tensors;
  std::vector<io::SafetensorsSpec> specs;
  for (std::vector<Tensor> group : {tables(), activations()}) {
    for (Tensor& tensor : group) {
      specs.push_back(tensor.spec);
      tensors.emplace(tensor.spec.name, std::move(tensor));
    }
  }
  const auto pairs = metadata();
  const std::unique_ptr<ObjectWriter> file = store.writer(shard_key(index_));
  Summed summed(*file);
  io::SafetensorsWriter writer(summed, std::move(specs), {pairs.begin(), pairs.end()});
  for (const io::SafetensorsSpec& spec : writer.order()) {
    for (const auto piece : tensors.at(spec.name).pieces) writer.write(spec.name, piece);
  }
  writer.finish();
  file->commit();

  const auto per_token = static_cast<int64_t>(2 * sizeof(int32_t) + sizeof(int64_t));
  const ManifestEntry entry{
      .shard = index_,
      .first_sample = first_sample_,
      .samples = std::ssize(samples_),
      .tokens = tokens(),
      .bytes = summed.count(),
      .raw_bytes = tokens() * (width_ * size_of(dtype_) * std::ssize(hooks_) + per_token) +
                   std::ssize(offsets_) * static_cast<int64_t>(sizeof(int64_t)),
      .sha256 = summed.hex()};
  const std::string text = to_json(entry);
  if (store.create(manifest_key(index_), text)) return true;
  // The file that is there now is this one, whatever the entry said.
  store.put(manifest_key(index_), text);
  const bool repaired = damaged_shards(store).contains(index_);
  clear_damage(store, index_);
  return repaired;
}

}  // namespace espalier::extract
