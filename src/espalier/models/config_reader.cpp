// SPDX-License-Identifier: Apache-2.0
#include "espalier/models/config_reader.h"

#include "espalier/base/error.h"

namespace espalier::models {
namespace {

nlohmann::ordered_json parse(std::string_view stage, std::string_view text,
                             std::string_view label) {
  try {
    return io::parse_ordered_json(text);
  } catch (const nlohmann::json::exception& error) {
    fail(ErrorKind::data, stage, "{} is not JSON: {}", label, error.what());
  }
}

}  // namespace

ConfigReader::ConfigReader(std::string_view stage, std::string_view text, std::string_view label)
    : ConfigReader(stage, Parsed{parse(stage, text, label)}, label) {}

ConfigReader::ConfigReader(std::string_view stage, Parsed parsed, std::string_view label)
    : stage_(stage), label_(label), json_(std::move(parsed.json)) {
  ESPALIER_CHECK(json_.is_object(), ErrorKind::data, stage_, "{} is not a JSON object", label_);
}

const ConfigReader::Json* ConfigReader::find(const char* key) const {
  const auto at = json_.find(key);
  return at == json_.end() || at->is_null() ? nullptr : &*at;
}

ConfigReader ConfigReader::object(const char* key) const {
  const Json* found = find(key);
  return {stage_, Parsed{found == nullptr ? Json::object() : *found}, label_ + ":" + key};
}

void ConfigReader::take(const char* key, int64_t& value, int64_t least) {
  const Json* found = find(key);
  if (found == nullptr) return;
  constexpr int64_t kMost = int64_t{1} << 31;
  ESPALIER_CHECK(found->is_number_integer() && found->get<int64_t>() >= least &&
                     found->get<int64_t>() <= kMost,
                 ErrorKind::data, stage_, "{} = {} is no size between {} and {} in {}", key,
                 found->dump(), least, kMost, label_);
  value = found->get<int64_t>();
}

void ConfigReader::take(const char* key, double& value, double least, double below) {
  const Json* found = find(key);
  if (found == nullptr) return;
  ESPALIER_CHECK(
      found->is_number() && found->get<double>() >= least && found->get<double>() < below,
      ErrorKind::data, stage_, "{} = {} is no number in [{}, {}) in {}", key, found->dump(), least,
      below, label_);
  value = found->get<double>();
}

void ConfigReader::take(const char* key, bool& value) {
  const Json* found = find(key);
  if (found == nullptr) return;
  ESPALIER_CHECK(found->is_boolean(), ErrorKind::data, stage_, "{} = {} is not true or false in {}",
                 key, found->dump(), label_);
  value = found->get<bool>();
}

void ConfigReader::only(const char* key, const Json& value) {
  const Json* found = find(key);
  if (found != nullptr && *found != value)
    lack(key, *found, fmt::format("only {} is", value.dump()));
}

void ConfigReader::lack(std::string_view key, const Json& found, std::string_view known) {
  lacking_.push_back(fmt::format("{} = {} ({} supported)", key, found.dump(), known));
}

void ConfigReader::check_supported() const {
  ESPALIER_CHECK(lacking_.empty(), ErrorKind::unsupported, stage_,
                 "{} asks for what this model lacks: {}", label_, fmt::join(lacking_, "; "));
}

}  // namespace espalier::models
