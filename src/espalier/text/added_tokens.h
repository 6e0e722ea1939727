// SPDX-License-Identifier: Apache-2.0
// Tokens that are found in the text before the model sees it: [MASK], <|im_end|> and the like.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/text/byte_trie.h"

namespace espalier::text {

struct AddedToken {
  std::string content;
  int32_t id = 0;
  bool special = false;      // left out by decode(skip_special)
  bool single_word = false;  // only between characters that are no word characters
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // takes the white space after it
  bool normalized = false;   // is looked for in the normalized text
};

/// Finds tokens: the leftmost, and of those that begin there the longest; then on behind it.
class AddedTokenFinder {
 public:
  /// Looks for `content` (not empty) instead of token.content.
  void add(const AddedToken& token, std::string_view content);
  bool empty() const { return trie_.empty(); }

  /// A stretch of text and, when it is a token, its id; else -1.
  struct Part {
    std::string_view text;
    int32_t id = -1;
  };
  /// A place in a text that is being cut into parts.
  struct Cursor {
    size_t at = 0;      // behind what was given out
    size_t search = 0;  // where to look for the next token
    Part pending;       // the token behind the stretch that was given out
  };
  /// The next part of `text`; false at its end.
  bool next(std::string_view text, Cursor& cursor, Part& part) const;

 private:
  std::vector<AddedToken> tokens_;
  ByteTrie trie_;
};

}  // namespace espalier::text
