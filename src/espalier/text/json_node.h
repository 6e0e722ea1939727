// SPDX-License-Identifier: Apache-2.0
// A value of a JSON file together with its path, so that every complaint names both. Internal to
// text.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "espalier/base/error.h"
#include "espalier/base/text.h"
#include "espalier/io/json.h"

namespace espalier::text {

class JsonNode {
 public:
  /// `file` is the label of the file; both outlive the node.
  JsonNode(const nlohmann::json& value, const std::string& file) : value_(&value), file_(&file) {}

  /// The member of an object; nothing when it is absent or null.
  std::optional<JsonNode> find(std::string_view key) const {
    expect(value_->is_object(), "an object");
    const auto it = value_->find(key);
    if (it == value_->end() || it->is_null()) return std::nullopt;
    return JsonNode(*it, *file_,
                    path_.empty() ? std::string(key) : fmt::format("{}.{}", path_, key));
  }
  JsonNode at(std::string_view key) const {
    const auto found = find(key);
    if (!found) fail_here(fmt::format("\"{}\" is missing", key));
    return *found;
  }
  JsonNode at(size_t index) const {
    return JsonNode((*value_)[index], *file_, fmt::format("{}[{}]", path_, index));
  }
  /// Number of elements of an array.
  size_t size() const {
    expect(value_->is_array(), "an array");
    return value_->size();
  }

  const std::string& string() const {
    expect(value_->is_string(), "a string");
    return value_->get_ref<const std::string&>();
  }
  int64_t integer() const {
    expect(value_->is_number_integer() && !over_range(), "an integer");
    return value_->get<int64_t>();
  }
  bool boolean() const {
    expect(value_->is_boolean(), "true or false");
    return value_->get<bool>();
  }
  bool flag(std::string_view key, bool otherwise) const {
    const auto found = find(key);
    return found ? found->boolean() : otherwise;
  }
  std::string text(std::string_view key, std::string_view otherwise) const {
    const auto found = find(key);
    return found ? found->string() : std::string(otherwise);
  }

  const nlohmann::json& value() const { return *value_; }
  /// "path in FILE", for messages.
  std::string place() const {
    return path_.empty() ? *file_ : fmt::format("{} in {}", path_, *file_);
  }
  [[noreturn]] void fail_here(std::string_view what, ErrorKind kind = ErrorKind::data) const {
    fail(kind, "tokenizer", "{}, at {}", what, place());
  }
  void expect(bool holds, std::string_view what) const {
    if (!holds) fail_here(fmt::format("{} is needed, this is a {}", what, value_->type_name()));
  }

 private:
  JsonNode(const nlohmann::json& value, const std::string& file, std::string path)
      : value_(&value), file_(&file), path_(std::move(path)) {}
  bool over_range() const {
    return value_->is_number_unsigned() && value_->get<uint64_t>() > uint64_t{INT64_MAX};
  }
  const nlohmann::json* value_;
  const std::string* file_;
  std::string path_;
};

/// Parses the text of `file`; `data` error with the place of a syntax error.
nlohmann::json parse_json(std::string_view text, const std::string& file);

}  // namespace espalier::text
