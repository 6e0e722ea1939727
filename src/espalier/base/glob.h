// SPDX-License-Identifier: Apache-2.0
// Patterns over parameter paths: case-sensitive, always the whole path.
//
//   *       any run of characters, dots included
//   ?       one character
//   [abc]   one of them; [a-z] a range; [!a-z] none of them; "]" first in the set is itself
#pragma once

#include <bitset>
#include <string>
#include <string_view>
#include <vector>

namespace espalier {

class Glob {
 public:
  /// Compiles `pattern`; throws `user` for a set that never closes or an empty pattern.
  explicit Glob(std::string pattern);

  /// Time is at most |path| * |pattern|, whatever the number of stars.
  bool matches(std::string_view path) const;
  const std::string& pattern() const { return pattern_; }

 private:
  enum class Kind : uint8_t { literal, any, star, set };
  struct Token {
    Kind kind;
    char literal;      // Kind::literal
    uint32_t set = 0;  // Kind::set: index into sets_
  };
  bool accepts(const Token& token, char c) const;
  size_t compile_set(size_t open);

  std::string pattern_;
  std::vector<Token> tokens_;
  std::vector<std::bitset<256>> sets_;
};

}  // namespace espalier
