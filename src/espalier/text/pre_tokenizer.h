// SPDX-License-Identifier: Apache-2.0
// Cutting text into words for byte-level BPE.
//
// The known patterns are matched by hand-written code, which is several times faster than a regular
// expression engine. They differ in a few rules (PatternRules); a pattern that is none of them is
// an `unsupported` error that prints it.
#pragma once

#include <cstdint>
#include <string_view>

#include "espalier/text/unicode.h"

namespace espalier::text {

enum class Pattern {
  gpt2,   // '...|` ?\p{L}+`|` ?\p{N}+`|...: GPT-2 and RoBERTa, ByteLevel(use_regex)
  qwen2,  // one digit a word, letters take one character before them, line ends stay together
  llama3  // the same, up to three digits a word
};

/// The pattern with this text in tokenizer.json.
Pattern pattern_of(std::string_view regex);
std::string_view name(Pattern pattern);

/// Classes of characters in these patterns, one or several a character.
struct PatternClass {
  static constexpr uint8_t kLetter = 1, kNumber = 2, kSpace = 4, kLineEnd = 8;
  static constexpr uint8_t kMayChange = 16;  // see may_change_in_nfc
};

/// Made at the first use, then constant.
const CodePointTable<uint8_t>& pattern_classes();

/// Cuts valid UTF-8 into words that follow each other without gaps.
class WordScanner {
 public:
  WordScanner(Pattern pattern, std::string_view text);

  /// The next word; empty at the end.
  std::string_view next();

 private:
  struct Rules {
    bool any_before_letters;  // one character that is no line end, letter or number; else a space
    bool ignore_case;         // of contractions
    bool line_ends;           // symbols take line ends after them; white space ends with them
    int digits;               // in a word at most; 0: any number, with a space before them
  };
  static Rules rules_of(Pattern pattern);

  uint8_t class_at(const char* at) const;
  const char* after(const char* at) const;
  const char* skip(const char* at, uint8_t classes) const;
  const char* skip_others(const char* at) const;
  const char* contraction(const char* at) const;
  const char* white_space(const char* at) const;

  Rules rules_;
  const CodePointTable<uint8_t>& classes_;
  const uint8_t* ascii_;
  const char* at_;
  const char* end_;
};

}  // namespace espalier::text
