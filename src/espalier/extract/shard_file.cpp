// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/shard_file.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <map>
#include <type_traits>

#include "espalier/base/error.h"
#include "espalier/base/glob.h"
#include "espalier/extract/shard.h"
#include "espalier/io/json.h"
#include "espalier/io/safetensors_header.h"

namespace espalier::extract {
namespace {

using Json = nlohmann::json;
constexpr std::string_view kStage = "shard";
constexpr int64_t kLengthBytes = 8;
/// What one request brings of a header; few are larger.
constexpr int64_t kFirstRequest = int64_t{64} << 10;
/// Far beyond any model; a compressed shard that claims more would ask for that much memory.
constexpr int64_t kWidest = int64_t{1} << 20;

/// A header's metadata and tensors, with errors that name the file.
class Header {
 public:
  Header(std::string_view text, const std::string& label, int64_t file_bytes)
      : label_(label), begin_(kLengthBytes + std::ssize(text)) {
    ESPALIER_CHECK(begin_ <= file_bytes, ErrorKind::data, kStage,
                   "{} has {} bytes, its header alone {}", label, file_bytes, begin_);
    header_ = io::parse_safetensors_header(text, label, file_bytes - begin_);
    for (const io::SafetensorsEntry& entry : header_.entries) by_name_[entry.name] = &entry;
  }

  const std::string& text(const std::string& key) const {
    const auto found = header_.metadata.find(key);
    ESPALIER_CHECK(found != header_.metadata.end(), ErrorKind::data, kStage,
                   "{} is no shard of activations: its metadata has no \"{}\"", label_, key);
    return found->second;
  }
  int64_t number(const std::string& key) const {
    const std::string& value = text(key);
    int64_t number = -1;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    ESPALIER_CHECK(error == std::errc() && end == value.data() + value.size() && number >= 0,
                   ErrorKind::data, kStage, "{}: metadata \"{}\" is \"{}\", no whole number",
                   label_, key, value);
    return number;
  }
  std::vector<std::string> names(const std::string& key) const {
    const Json json = io::try_parse_json(text(key));
    const bool good =
        json.is_array() &&
        std::all_of(json.begin(), json.end(), [](const Json& item) { return item.is_string(); });
    ESPALIER_CHECK(good, ErrorKind::data, kStage, "{}: metadata \"{}\" is no list of names", label_,
                   key);
    return json.get<std::vector<std::string>>();
  }

  const io::SafetensorsEntry& tensor(const std::string& name) const {
    const auto found = by_name_.find(name);
    ESPALIER_CHECK(found != by_name_.end(), ErrorKind::data, kStage, "{} has no tensor {}", label_,
                   name);
    return *found->second;
  }
  /// Where a tensor of this dtype and shape lies.
  ByteRange range(const std::string& name, DType dtype, const Shape& shape) const {
    const io::SafetensorsEntry& entry = tensor(name);
    ESPALIER_CHECK(entry.dtype == io::safetensors_name(dtype) && entry.shape == shape,
                   ErrorKind::data, kStage, "{}:{} is {} {} where {} {} is expected", label_, name,
                   entry.dtype, entry.shape.str(), io::safetensors_name(dtype), shape.str());
    return {begin_ + entry.begin, entry.end - entry.begin};
  }

 private:
  const std::string& label_;
  int64_t begin_;  // of the data
  io::SafetensorsHeader header_;
  std::map<std::string, const io::SafetensorsEntry*> by_name_;
};

DType float_type(const Header& header, const std::string& label) {
  const std::string& text = header.text("dtype");
  const auto dtype = parse_dtype(text);
  const bool known = dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::f16;
  ESPALIER_CHECK(known, ErrorKind::data, kStage, "{}: metadata \"dtype\" is \"{}\"", label, text);
  return *dtype;
}

Compression compression_of(const Header& header, const std::string& label) {
  const std::string& text = header.text("compression");
  for (const Compression compression : {Compression::none, Compression::zstd}) {
    if (name(compression) == text) return compression;
  }
  fail(ErrorKind::data, kStage, "{}: metadata \"compression\" is \"{}\"", label, text);
}

/// The first dimension of a table.
int64_t length_of(const Header& header, const std::string& name, const std::string& label) {
  const Shape& shape = header.tensor(name).shape;
  ESPALIER_CHECK(shape.rank() == 1 && shape[0] > 0, ErrorKind::data, kStage,
                 "{}:{} has shape {}, no list of at least one", label, name, shape.str());
  return shape[0];
}

}  // namespace

ShardLayout parse_shard_header(std::string_view text, const std::string& label,
                               int64_t file_bytes) {
  const Header header(text, label, file_bytes);
  ESPALIER_CHECK(header.text("format") == kShardFormat, ErrorKind::data, kStage,
                 "{} has format \"{}\", this program reads \"{}\"", label, header.text("format"),
                 kShardFormat);
  ShardLayout layout;
  layout.dtype = float_type(header, label);
  layout.compression = compression_of(header, label);
  layout.width = header.number("width");
  layout.first_sample = header.number("first_sample");
  layout.hooks = header.names("hooks");
  layout.sample_ids = header.names("sample_ids");
  layout.samples = std::ssize(layout.sample_ids);
  layout.tokens = length_of(header, "token_ids", label);
  ESPALIER_CHECK(header.number("frame_rows") == kFrameRows, ErrorKind::data, kStage,
                 "{}: metadata \"frame_rows\" is {}, not {}", label, header.number("frame_rows"),
                 kFrameRows);
  ESPALIER_CHECK(layout.samples > 0 && layout.samples <= layout.tokens && layout.width > 0 &&
                     layout.width <= kWidest,
                 ErrorKind::data, kStage, "{}: {} samples in {} tokens of width {}", label,
                 layout.samples, layout.tokens, layout.width);
  const Shape per_token{layout.tokens};
  layout.token_ids = header.range("token_ids", DType::i32, per_token);
  layout.position = header.range("position", DType::i32, per_token);
  layout.sample_index = header.range("sample_index", DType::i64, per_token);
  layout.offsets = header.range("offsets", DType::i64, {layout.samples + 1});
  for (const std::string& hook : layout.hooks) {
    if (layout.compression == Compression::none) {
      const Shape shape{layout.tokens, layout.width};
      layout.activations.push_back(header.range(hook, layout.dtype, shape));
      continue;
    }
    const Shape bytes{length_of(header, hook, label)};
    layout.activations.push_back(header.range(hook, DType::u8, bytes));
    const Shape frames{frames_of(layout.tokens) + 1};
    layout.frame_tables.push_back(
        header.range(hook + std::string(kFramesSuffix), DType::i64, frames));
  }
  return layout;
}

std::vector<size_t> select_hooks(std::span<const std::string> hooks,
                                 std::span<const std::string> globs) {
  std::vector<bool> wanted(hooks.size(), globs.empty());
  for (const std::string& text : globs) {
    const Glob glob(text);
    bool found = false;
    for (size_t i = 0; i < hooks.size(); ++i) {
      if (!glob.matches(hooks[i])) continue;
      found = true;
      wanted[i] = true;
    }
    ESPALIER_CHECK(found, ErrorKind::user, "hooks", "\"{}\" is none of the run's {} activations{}",
                   text, hooks.size(), glob.nearest_hint(hooks));
  }
  std::vector<size_t> places;
  for (size_t i = 0; i < hooks.size(); ++i) {
    if (wanted[i]) places.push_back(i);
  }
  return places;
}

ShardFile::ShardFile(Store& store, const ManifestEntry& entry)
    : store_(store), key_(shard_key(entry.shard)), label_(store.where(key_)) {
  read_header(entry);
  read_frame_tables();
}

ShardFile::ShardFile(Store& store, const ManifestEntry& entry, std::span<const std::string> globs)
    : store_(store), key_(shard_key(entry.shard)), label_(store.where(key_)) {
  read_header(entry);
  ShardLayout& layout = layout_;
  const auto keep = [places = select_hooks(layout.hooks, globs)](auto& all) {
    std::remove_reference_t<decltype(all)> kept;
    kept.reserve(places.size());
    for (const size_t place : places) kept.push_back(std::move(all[place]));
    all = std::move(kept);
  };
  keep(layout.hooks);
  keep(layout.activations);
  if (!layout.frame_tables.empty()) keep(layout.frame_tables);
  layout.sample_ids = {};
  read_frame_tables();
}

void ShardFile::read_header(const ManifestEntry& entry) {
  const std::optional<int64_t> size = store_.size(key_);
  ESPALIER_CHECK(size.has_value(), ErrorKind::data, kStage, "{} is missing", label_);
  ESPALIER_CHECK(*size == entry.bytes, ErrorKind::data, kStage, "{} has {} bytes, the manifest {}",
                 label_, *size, entry.bytes);
  ESPALIER_CHECK(*size >= kLengthBytes, ErrorKind::data, kStage, "{} has {} bytes only", label_,
                 *size);
  std::vector<std::byte> start(static_cast<size_t>(std::min(*size, kFirstRequest)));
  store_.read(key_, 0, start);
  uint64_t length = 0;
  std::memcpy(&length, start.data(), sizeof(length));
  ESPALIER_CHECK(
      length <= static_cast<uint64_t>(std::min(*size - kLengthBytes, io::kSafetensorsHeaderLimit)),
      ErrorKind::data, kStage, "{} begins with a header length of {}; it is damaged", label_,
      length);
  std::string header(static_cast<size_t>(length), '\0');
  const size_t here = std::min(header.size(), start.size() - kLengthBytes);
  std::memcpy(header.data(), start.data() + kLengthBytes, here);
  store_.read(key_, kLengthBytes + static_cast<int64_t>(here),
              std::as_writable_bytes(std::span(header)).subspan(here));
  layout_ = parse_shard_header(header, label_, *size);
  ESPALIER_CHECK(layout_.tokens == entry.tokens && layout_.samples == entry.samples &&
                     layout_.first_sample == entry.first_sample,
                 ErrorKind::data, kStage,
                 "{} holds samples {} + {} and {} tokens, the manifest says {} + {} and {}", label_,
                 layout_.first_sample, layout_.samples, layout_.tokens, entry.first_sample,
                 entry.samples, entry.tokens);
}

void ShardFile::read_frame_tables() {
  if (layout_.compression == Compression::none) return;
  const int64_t count = frames_of(layout_.tokens) + 1;
  for (size_t hook = 0; hook < layout_.hooks.size(); ++hook) {
    std::vector<int64_t> begins = table<int64_t>(layout_.frame_tables[hook], 0, count);
    const bool rising =
        std::adjacent_find(begins.begin(), begins.end(), std::greater_equal<>()) == begins.end();
    ESPALIER_CHECK(
        rising && begins.front() == 0 && begins.back() == layout_.activations[hook].bytes,
        ErrorKind::data, kStage, "{}{} does not describe the bytes of its frames", where(hook),
        kFramesSuffix);
    frames_.push_back(std::move(begins));
  }
}

std::string ShardFile::where(size_t hook) const {
  return fmt::format("{}:{}", label_, layout_.hooks[hook]);
}
std::string ShardFile::where(size_t hook, int64_t frame) const {
  return fmt::format("{} frame {}", where(hook), frame);
}

void ShardFile::rows(size_t hook, int64_t first, int64_t count, std::span<std::byte> out,
                     FrameDecoder& decoder) const {
  const int64_t row_bytes = layout_.row_bytes(), last = first + count;
  ESPALIER_ASSERT(first >= 0 && last <= layout_.tokens && std::ssize(out) == count * row_bytes);
  const int64_t begin = layout_.activations[hook].begin;
  if (layout_.compression == Compression::none) {
    store_.read(key_, begin + first * row_bytes, out);
    return;
  }
  if (count == 0) return;
  // All frames that hold some of the rows, in one request.
  const std::span<const int64_t> begins = frames(hook);
  const int64_t first_frame = first / kFrameRows, last_frame = frames_of(last);
  const int64_t from = begins[static_cast<size_t>(first_frame)];
  std::vector<std::byte> stored(
      static_cast<size_t>(begins[static_cast<size_t>(last_frame)] - from));
  store_.read(key_, begin + from, stored);
  std::vector<std::byte> whole;
  for (int64_t frame = first_frame; frame < last_frame; ++frame) {
    const auto at = static_cast<size_t>(frame);
    const auto bytes = std::span<const std::byte>(stored).subspan(
        static_cast<size_t>(begins[at] - from), static_cast<size_t>(begins[at + 1] - begins[at]));
    const int64_t frame_begin = frame * kFrameRows;
    const int64_t frame_end = std::min(frame_begin + kFrameRows, layout_.tokens);
    const int64_t wanted_begin = std::max(first, frame_begin);
    const int64_t wanted_end = std::min(last, frame_end);
    const auto to = out.subspan(static_cast<size_t>((wanted_begin - first) * row_bytes),
                                static_cast<size_t>((wanted_end - wanted_begin) * row_bytes));
    if (wanted_begin == frame_begin && wanted_end == frame_end) {
      decoder.decode(bytes, size_of(layout_.dtype), to, where(hook, frame));
      continue;
    }
    whole.resize(static_cast<size_t>((frame_end - frame_begin) * row_bytes));
    decoder.decode(bytes, size_of(layout_.dtype), whole, where(hook, frame));
    std::memcpy(to.data(), whole.data() + (wanted_begin - frame_begin) * row_bytes, to.size());
  }
}

template <typename T>
std::vector<T> ShardFile::table(const ByteRange& range, int64_t first, int64_t count) const {
  constexpr auto kSize = static_cast<int64_t>(sizeof(T));
  ESPALIER_ASSERT(first >= 0 && count >= 0 && (first + count) * kSize <= range.bytes);
  std::vector<T> values(static_cast<size_t>(count));
  store_.read(key_, range.begin + first * kSize, std::as_writable_bytes(std::span(values)));
  return values;
}

std::vector<int32_t> ShardFile::token_ids(int64_t first, int64_t count) const {
  return table<int32_t>(layout_.token_ids, first, count);
}
std::vector<int32_t> ShardFile::positions(int64_t first, int64_t count) const {
  return table<int32_t>(layout_.position, first, count);
}
std::vector<int64_t> ShardFile::sample_indices(int64_t first, int64_t count) const {
  return table<int64_t>(layout_.sample_index, first, count);
}
std::vector<int64_t> ShardFile::offsets() const {
  return table<int64_t>(layout_.offsets, 0, layout_.samples + 1);
}

}  // namespace espalier::extract
