// SPDX-License-Identifier: Apache-2.0
// Patterns over parameter paths: case-sensitive, always the whole path.
//
//   *       any run of characters, dots included
//   ?       one character
//   [abc]   one of them; [a-z] a range; [!a-z] none of them; "]" first in the set is itself
#pragma once

#include <bitset>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace espalier {

class Glob {
 public:
  /// Compiles `pattern`; throws `user` for a set that never closes or an empty pattern.
  explicit Glob(std::string pattern);

  /// Time is at most |path| * |pattern|, whatever the number of stars; a path that does not end as
  /// the pattern does is refused at once.
  bool matches(std::string_view path) const;
  const std::string& pattern() const { return pattern_; }
  /// "; nearest: PATH" with the path that needs the fewest edits to match, or nothing.
  std::string nearest_hint(std::span<const std::string> paths) const;

 private:
  enum class Kind : uint8_t { literal, any, star, set };
  struct Token {
    Kind kind;
    char literal;      // Kind::literal
    uint32_t set = 0;  // Kind::set: index into sets_
  };
  bool accepts(const Token& token, char c) const;
  size_t compile_set(size_t open);
  int64_t edits_to_match(std::string_view path) const;

  std::string pattern_;
  std::vector<Token> tokens_;
  std::vector<std::bitset<256>> sets_;
  std::string tail_;        // what the pattern ends with after its last star, set or '?'
  bool only_tail_ = false;  // the pattern is one star and the tail
};

}  // namespace espalier
