// SPDX-License-Identifier: Apache-2.0
// The vocabulary: tokens by id and ids by token.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace espalier::text {

class TokenTable {
 public:
  TokenTable() = default;
  TokenTable(TokenTable&&) = default;
  TokenTable& operator=(TokenTable&&) = default;

  void reserve(size_t count);
  /// `data` error, with `place` in it, when the id or the token is taken by another, or when the id
  /// lies so far from those before it that most of the table would be empty.
  void add(std::string_view token, int64_t id, const std::string& place);

  int64_t size() const { return static_cast<int64_t>(tokens_.size()); }
  std::optional<int32_t> id(std::string_view token) const;
  /// Empty for ids without a token.
  std::string_view token(int32_t id) const {
    return contains(id) ? std::string_view(*tokens_[static_cast<size_t>(id)]) : std::string_view();
  }
  bool contains(int32_t id) const {
    return id >= 0 && id < size() && tokens_[static_cast<size_t>(id)] != nullptr;
  }
  /// Tokens by id; nothing for ids without one.
  std::vector<std::string_view> list() const;

 private:
  /// Looks up views without making strings of them.
  struct Hash : std::hash<std::string_view> {
    using is_transparent = void;
  };
  std::unordered_map<std::string, int32_t, Hash, std::equal_to<>> ids_;
  std::vector<const std::string*> tokens_;  // keys of ids_, which stay where they are
};

}  // namespace espalier::text
