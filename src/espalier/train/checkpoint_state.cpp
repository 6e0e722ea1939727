// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/checkpoint_state.h"

#include <charconv>
#include <cmath>
#include <utility>

#include "espalier/base/crc32c.h"
#include "espalier/base/error.h"
#include "espalier/io/json.h"

namespace espalier::train {
namespace {
using nlohmann::json;
constexpr std::string_view kStage = "checkpoint";
constexpr int64_t kFormat = 1;
constexpr int kDeepest = 4;  // file > checkpoint > section > value > non-finite double

/// One spelling per value: keys sorted, no spaces. Also what the checksum covers. Text that is not
/// UTF-8 (a path in the options) keeps what can be kept.
std::string canonical(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string hex(uint32_t crc) { return fmt::format("{:08x}", crc); }

uint32_t crc_of(const std::string& text) {
  return crc32c(std::as_bytes(std::span(text.data(), text.size())));
}

json to_json(const CheckpointValue& value) {
  // JSON has no NaN and no infinities.
  if (const auto* number = std::get_if<double>(&value); number && !std::isfinite(*number)) {
    return {{"double", fmt::format("{}", *number)}};
  }
  return std::visit([](const auto& plain) { return json(plain); }, value);
}

json to_json(const CheckpointSection& section) {
  json object = json::object();
  for (const auto& [key, value] : section) object[key] = to_json(value);
  return object;
}

json to_json(const CheckpointFile& file) {
  return {{"bytes", file.bytes}, {"crc32c", hex(file.crc32c)}};
}

/// A value with its place in the file, so that every complaint names it.
class Reader {
 public:
  Reader(const json& value, std::string place, const std::string& label)
      : value_(value), place_(std::move(place)), label_(label) {}

  Reader at(const char* key) const {
    require(value_.is_object(), "an object");
    const auto found = value_.find(key);
    ESPALIER_CHECK(found != value_.end(), ErrorKind::data, kStage, "{} has no \"{}\", at {}",
                   place_, key, label_);
    return {*found, place_ + "." + key, label_};
  }

  int64_t integer() const {
    require(value_.is_number_integer(), "an integer");
    const bool fits = !value_.is_number_unsigned() || std::in_range<int64_t>(word());
    require(fits, "an integer below 2^63");
    return value_.get<int64_t>();
  }

  int64_t size() const {
    const int64_t number = integer();
    require(number >= 0, "a number from 0 on");
    return number;
  }

  uint64_t word() const {
    require(value_.is_number_unsigned(), "a number from 0 on");
    return value_.get<uint64_t>();
  }

  std::string text() const {
    require(value_.is_string(), "a string");
    return value_.get<std::string>();
  }

  uint32_t crc() const {
    const std::string digits = text();
    uint32_t crc = 0;
    const auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), crc, 16);
    const bool whole = error == std::errc() && end == digits.data() + digits.size();
    require(whole && digits == hex(crc), "eight hexadecimal digits");
    return crc;
  }

  CheckpointFile file() const { return {at("bytes").size(), at("crc32c").crc()}; }

  CheckpointValue value() const {
    if (value_.is_boolean()) return value_.get<bool>();
    if (value_.is_string()) return value_.get<std::string>();
    if (value_.is_number_float()) return value_.get<double>();
    if (!value_.is_object()) return integer();
    const std::string name = at("double").text();
    if (name == "inf") return HUGE_VAL;
    if (name == "-inf") return -HUGE_VAL;
    require(name == "nan" || name == "-nan", "inf, -inf or nan");
    return std::nan("");
  }

  CheckpointSection section() const {
    require(value_.is_object(), "an object");
    CheckpointSection section;
    for (const auto& [key, value] : value_.items()) {
      section[key] = Reader(value, place_ + "." + key, label_).value();
    }
    return section;
  }

  const json& raw() const { return value_; }

 private:
  void require(bool holds, std::string_view wanted) const {
    ESPALIER_CHECK(holds, ErrorKind::data, kStage, "{} is not {}, at {}", place_, wanted, label_);
  }

  const json& value_;
  std::string place_;
  const std::string& label_;
};

json parse_bounded(std::string_view text, const std::string& label) {
  // The JSON parser would take a zero byte for the end of its input.
  const bool zero = text.find('\0') != text.npos;
  ESPALIER_CHECK(!zero, ErrorKind::data, kStage, "not JSON: a zero byte, at {}", label);
  const auto bounded = [&](int depth, json::parse_event_t, json&) {
    ESPALIER_CHECK(depth <= kDeepest, ErrorKind::data, kStage, "nested more than {} deep, at {}",
                   kDeepest, label);
    return true;
  };
  try {
    return json::parse(text.begin(), text.end(), bounded);
  } catch (const json::exception& error) {
    fail(ErrorKind::data, kStage, "not JSON: {}, at {}", error.what(), label);
  }
}
}  // namespace

std::string print_checkpoint_state(const CheckpointState& state) {
  json content = {{"format", kFormat},
                  {"library", state.library},
                  {"step", state.step},
                  {"seed", state.seed},
                  {"config", to_json(state.config)},
                  {"options", to_json(state.options)},
                  {"data", to_json(state.data)},
                  {"model.safetensors", to_json(state.model)},
                  {"state.safetensors", to_json(state.state)}};
  json whole = {{"crc32c", hex(crc_of(canonical(content)))}};
  whole["checkpoint"] = std::move(content);
  return whole.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

CheckpointState parse_checkpoint_state(std::string_view text, const std::string& label) {
  const json whole = parse_bounded(text, label);
  const Reader file(whole, "the file", label);
  const Reader content = file.at("checkpoint");
  const uint32_t stated = file.at("crc32c").crc();
  const uint32_t found = crc_of(canonical(content.raw()));
  ESPALIER_CHECK(stated == found, ErrorKind::data, kStage,
                 "the checksum does not match: stated {}, found {}, at {}", hex(stated), hex(found),
                 label);
  const int64_t format = content.at("format").integer();
  ESPALIER_CHECK(format <= kFormat, ErrorKind::unsupported, kStage,
                 "format {} was written by a later version; this one reads up to {}, at {}", format,
                 kFormat, label);
  return {.step = content.at("step").size(),
          .seed = content.at("seed").word(),
          .config = content.at("config").section(),
          .options = content.at("options").section(),
          .data = content.at("data").section(),
          .library = content.at("library").text(),
          .model = content.at("model.safetensors").file(),
          .state = content.at("state.safetensors").file()};
}

std::string print_run_file(const RunFile& run) {
  const nlohmann::ordered_json whole{{"version", run.version},
                                     {"job", run.job},
                                     {"seed", run.seed},
                                     {"config", to_json(run.config)},
                                     {"options", to_json(run.options)},
                                     {"data", to_json(run.data)}};
  return whole.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

RunFile parse_run_file(std::string_view text, const std::string& label) {
  const json whole = parse_bounded(text, label);
  const Reader file(whole, "the file", label);
  return {.version = file.at("version").text(),
          .job = file.at("job").text(),
          .seed = file.at("seed").word(),
          .config = file.at("config").section(),
          .options = file.at("options").section(),
          .data = file.at("data").section()};
}

}  // namespace espalier::train
