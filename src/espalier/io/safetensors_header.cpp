// SPDX-License-Identifier: Apache-2.0
#include "espalier/io/safetensors_header.h"

#include <algorithm>
#include <array>
#include <unordered_set>

#include "espalier/base/text.h"
#include "espalier/io/json.h"

namespace espalier::io {
namespace {
using nlohmann::json;
constexpr std::string_view kStage = "safetensors";

struct FileDType {
  std::string_view name;
  int64_t bits;
  std::optional<DType> dtype;
};
constexpr std::array<FileDType, 22> kDTypes{{
    {"BOOL", 8, DType::boolean},
    {"U8", 8, DType::u8},
    {"I8", 8, {}},
    {"I16", 16, {}},
    {"U16", 16, {}},
    {"I32", 32, DType::i32},
    {"U32", 32, {}},
    {"I64", 64, DType::i64},
    {"U64", 64, {}},
    {"F16", 16, DType::f16},
    {"BF16", 16, DType::bf16},
    {"F32", 32, DType::f32},
    {"F64", 64, DType::f64},
    {"C64", 64, {}},
    {"F8_E4M3", 8, {}},
    {"F8_E5M2", 8, {}},
    {"F8_E8M0", 8, {}},
    {"F8_E4M3FNUZ", 8, {}},
    {"F8_E5M2FNUZ", 8, {}},
    {"F6_E2M3", 6, {}},
    {"F6_E3M2", 6, {}},
    {"F4", 4, {}},
}};

/// Receives the events of the JSON parser, so that duplicates are seen, nesting is bounded by what
/// the format has, and a large header needs no tree in memory.
class HeaderEvents : public nlohmann::json_sax<json> {
 public:
  HeaderEvents(const std::string& label, SafetensorsHeader& header)
      : label_(label), header_(header) {}

  bool null() override { return refuse("null"); }
  bool boolean(bool) override { return refuse("a boolean"); }
  bool number_integer(number_integer_t) override { return refuse("a negative number"); }
  bool number_float(number_float_t, const string_t&) override { return refuse("a fraction"); }
  bool binary(binary_t&) override { return refuse("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ != Place::list) return refuse("a number");
    ESPALIER_CHECK(std::in_range<int64_t>(value), ErrorKind::data, kStage,
                   "{} of {} does not fit 63 bits, at {}", field_, value, where());
    list_.push_back(static_cast<int64_t>(value));
    return true;
  }

  bool string(string_t& text) override {
    if (place_ == Place::metadata) {
      header_.metadata[field_] = text;
      return true;
    }
    if (place_ != Place::tensor || field_ != "dtype") return refuse("a string");
    entry_.dtype = text;
    return true;
  }

  bool start_object(size_t) override {
    if (place_ == Place::outside) {
      place_ = Place::root;
    } else if (place_ == Place::root) {
      const bool metadata = entry_.name == "__metadata__";
      place_ = metadata ? Place::metadata : Place::tensor;
      fields_.clear();
    } else {
      return refuse("an object");
    }
    return true;
  }

  bool key(string_t& text) override {
    const bool in_root = place_ == Place::root;
    auto& seen = in_root ? names_ : fields_;
    if (in_root) {
      entry_ = {};
      entry_.name = text;
    }
    field_ = in_root ? std::string() : text;
    ESPALIER_CHECK(seen.insert(text).second, ErrorKind::data, kStage,
                   "{} {} appears twice in the header, at {}", in_root ? "name" : "key",
                   json_quote(text), in_root ? label_ : where());
    const bool known = text == "dtype" || text == "shape" || text == "data_offsets";
    ESPALIER_CHECK(place_ != Place::tensor || known, ErrorKind::data, kStage,
                   "unknown key {}; a tensor has dtype, shape and data_offsets, at {}",
                   json_quote(text), where());
    return true;
  }

  bool end_object() override {
    if (place_ == Place::tensor) {
      for (const char* needed : {"dtype", "shape", "data_offsets"}) {
        ESPALIER_CHECK(fields_.contains(needed), ErrorKind::data, kStage, "no {}, at {}", needed,
                       where());
      }
      header_.entries.push_back(std::move(entry_));
    }
    place_ = place_ == Place::root ? Place::outside : Place::root;
    return true;
  }

  bool start_array(size_t) override {
    if (place_ != Place::tensor || field_ == "dtype") return refuse("a list");
    list_.clear();
    place_ = Place::list;
    return true;
  }

  bool end_array() override {
    place_ = Place::tensor;
    if (field_ == "shape") {
      entry_.shape = Shape(list_);
      return true;
    }
    ESPALIER_CHECK(list_.size() == 2, ErrorKind::data, kStage,
                   "data_offsets holds {} numbers instead of begin and end, at {}", list_.size(),
                   where());
    entry_.begin = list_[0];
    entry_.end = list_[1];
    return true;
  }

  bool parse_error(size_t position, const std::string&, const json::exception& error) override {
    // "[json.exception.parse_error.101] parse error at line 1, column 5: syntax error while ..."
    std::string_view reason = error.what();
    if (const size_t cut = reason.find(": "); cut != reason.npos) reason.remove_prefix(cut + 2);
    fail(ErrorKind::data, kStage, "the header is not JSON at its byte {}: {}, at {}", position,
         reason, label_);
  }

 private:
  enum class Place { outside, root, metadata, tensor, list };

  std::string where() const { return label_ + ":" + entry_.name; }

  [[noreturn]] bool refuse(std::string_view what) const {
    const char* wanted = "an object of tensors";
    if (place_ == Place::root) wanted = "an object";
    if (place_ == Place::metadata) wanted = "a string";
    if (place_ == Place::tensor) wanted = field_ == "dtype" ? "a string" : "a list of sizes";
    if (place_ == Place::list) wanted = "a size";
    fail(ErrorKind::data, kStage, "{} where {} belongs{}, at {}", what, wanted,
         field_.empty() ? "" : " in " + json_quote(field_), where());
  }

  const std::string& label_;
  SafetensorsHeader& header_;
  Place place_ = Place::outside;
  SafetensorsEntry entry_;
  std::string field_;
  std::vector<int64_t> list_;
  std::unordered_set<std::string> names_, fields_;
};

/// Bytes that dtype and shape ask for.
int64_t wanted_bytes(const SafetensorsEntry& entry, const std::string& label) {
  const auto bits = safetensors_bits(entry.dtype);
  ESPALIER_CHECK(bits.has_value(), ErrorKind::data, kStage, "unknown dtype {}, at {}:{}",
                 json_quote(entry.dtype), label, entry.name);
  int64_t total = *bits;
  bool overflow = false;
  for (const int64_t size : entry.shape) {
    overflow = overflow || __builtin_mul_overflow(total, size, &total);
  }
  ESPALIER_CHECK(!overflow, ErrorKind::data, kStage,
                 "the size of {} {} does not fit 63 bits, at {}:{}", entry.dtype, entry.shape.str(),
                 label, entry.name);
  ESPALIER_CHECK(total % 8 == 0, ErrorKind::data, kStage,
                 "{} {} ends inside a byte ({} bits), at {}:{}", entry.dtype, entry.shape.str(),
                 total, label, entry.name);
  return total / 8;
}
}  // namespace

std::optional<int64_t> safetensors_bits(std::string_view dtype) {
  for (const FileDType& row : kDTypes) {
    if (row.name == dtype) return row.bits;
  }
  return std::nullopt;
}

std::optional<DType> dtype_from_safetensors(std::string_view name) {
  for (const FileDType& row : kDTypes) {
    if (row.name == name) return row.dtype;
  }
  return std::nullopt;
}

std::string_view safetensors_name(DType dtype) {
  for (const FileDType& row : kDTypes) {
    if (row.dtype == dtype) return row.name;
  }
  fail(ErrorKind::internal, kStage, "dtype {} has no name in the format", name(dtype));
}

SafetensorsHeader parse_safetensors_header(std::string_view text, const std::string& label,
                                           int64_t data_bytes) {
  ESPALIER_CHECK(text.starts_with('{'), ErrorKind::data, kStage,
                 "the header does not begin with \"{{\", at {}", label);
  // The JSON parser would take a zero byte for the end of its input.
  const size_t zero = text.find('\0');
  ESPALIER_CHECK(zero == text.npos, ErrorKind::data, kStage,
                 "the header is not JSON at its byte {}: a zero byte, at {}", zero, label);
  SafetensorsHeader header;
  HeaderEvents events(label, header);
  json::sax_parse(text.begin(), text.end(), &events);
  auto& entries = header.entries;
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  int64_t position = 0;
  for (const SafetensorsEntry& entry : entries) {
    const auto offsets = [&] { return fmt::format("[{},{}]", entry.begin, entry.end); };
    ESPALIER_CHECK(entry.begin <= entry.end, ErrorKind::data, kStage,
                   "data_offsets {} run backwards, at {}:{}", offsets(), label, entry.name);
    ESPALIER_CHECK(entry.end <= data_bytes, ErrorKind::data, kStage,
                   "data_offsets {} reach beyond the {} bytes of data in the file; it may be cut "
                   "short, at {}:{}",
                   offsets(), data_bytes, label, entry.name);
    const int64_t wanted = wanted_bytes(entry, label);
    ESPALIER_CHECK(entry.end - entry.begin == wanted, ErrorKind::data, kStage,
                   "data_offsets {} hold {} bytes, {} {} needs {}, at {}:{}", offsets(),
                   entry.end - entry.begin, entry.dtype, entry.shape.str(), wanted, label,
                   entry.name);
    ESPALIER_CHECK(entry.begin >= position, ErrorKind::data, kStage,
                   "data_offsets {} overlap the tensor before, which ends at {}, at {}:{}",
                   offsets(), position, label, entry.name);
    ESPALIER_CHECK(entry.begin == position, ErrorKind::data, kStage,
                   "data_offsets {} leave a hole of {} bytes before them, at {}:{}", offsets(),
                   entry.begin - position, label, entry.name);
    position = entry.end;
  }
  ESPALIER_CHECK(position == data_bytes, ErrorKind::data, kStage,
                 "{} bytes follow the last tensor, at {}", data_bytes - position, label);
  return header;
}

}  // namespace espalier::io
