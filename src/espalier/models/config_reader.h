// SPDX-License-Identifier: Apache-2.0
// Reads a model's config.json key by key: absent and null keys keep their defaults, wrong types and
// impossible sizes are `data` errors, and options that a model lacks are collected and reported
// together.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "espalier/io/json.h"

namespace espalier::models {

class ConfigReader {
 public:
  using Json = nlohmann::ordered_json;

  /// `stage` names the model in errors, `label` the file. Throws `data` for text that is no JSON
  /// object.
  ConfigReader(std::string_view stage, std::string_view text, std::string_view label);

  /// A size in [least, 2^31]: products of two of them fit 63 bits.
  void take(const char* key, int64_t& value, int64_t least);
  /// A number in [least, below).
  void take(const char* key, double& value, double least, double below);
  void take(const char* key, bool& value);

  /// One of several names; another one is an option that the model lacks.
  template <typename T>
  void choose(const char* key, const std::vector<std::pair<std::string, T>>& names, T& value) {
    const Json* found = find(key);
    if (found == nullptr) return;
    std::string known;
    for (const auto& [name, choice] : names) {
      if (*found == name) {
        value = choice;
        return;
      }
      known += known.empty() ? name : ", " + name;
    }
    lack(key, *found, known + " are");
  }

  /// An option whose other values the model lacks.
  void only(const char* key, const Json& value);
  /// Notes that `key` = `found` is lacking; `known` says what is ("only x is", "x, y are").
  void lack(std::string_view key, const Json& found, std::string_view known);
  /// Throws `unsupported` with everything that is lacking.
  void check_supported() const;

  /// Absent and null mean the default.
  const Json* find(const char* key) const;
  /// The reader of the object at `key`, an empty one where there is none.
  ConfigReader object(const char* key) const;

 private:
  struct Parsed {
    Json json;
  };
  ConfigReader(std::string_view stage, Parsed parsed, std::string_view label);

  std::string stage_, label_;
  Json json_;
  std::vector<std::string> lacking_;
};

}  // namespace espalier::models
