// SPDX-License-Identifier: Apache-2.0
// BERT's text cleaning: control characters out, Chinese characters apart, accents off, lower case.
//
// Nearly every character can be normalized alone, and then sorted at once into what the
// pre-tokenizer does with it; the table of CharacterAction says how. The few that take part in
// canonical reordering and stay send their whole segment through `append_normalized`, which does
// the steps one after the other.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <tuple>

#include "espalier/text/unicode.h"

namespace espalier::text {

struct BertNormalizerOptions {
  bool clean_text = true;
  bool handle_chinese_chars = true;
  bool strip_accents = true;
  bool lowercase = true;
};

struct CharacterAction {
  enum Kind : uint8_t {
    keep,      // part of a word as it is
    map,       // part of a word as other characters
    drop,      // nothing
    space,     // ends a word
    alone,     // a word of its own: punctuation and Chinese
    sequence,  // depends on its neighbours
  };
  Kind kind = keep;
  uint8_t size = 0;    // bytes that take its place, for map and alone; 0: its own stay
  uint16_t place = 0;  // of these bytes in the pool, in units of 4 bytes
  bool operator<(const CharacterAction& other) const {
    return std::tie(kind, size, place) < std::tie(other.kind, other.size, other.place);
  }
};

class BertNormalizer {
 public:
  explicit BertNormalizer(const BertNormalizerOptions& options);

  CharacterAction action(char32_t c) const { return actions_[c]; }
  CharacterAction ascii_action(uint8_t c) const { return ascii_[c]; }
  /// What takes the place of a character that is spelled `own`.
  std::string_view bytes(CharacterAction action, std::string_view own) const {
    if (action.size == 0) return own;
    return {pool_.data() + size_t{action.place} * 4, action.size};
  }

  /// Appends the normalized text, step by step.
  void append_normalized(std::string_view text, std::string& out) const;

 private:
  CharacterAction make_action(char32_t c);
  BertNormalizerOptions options_;
  std::string pool_;
  std::map<std::string, uint16_t> places_;  // in the pool
  CodePointTable<CharacterAction> actions_;
  std::array<CharacterAction, 128> ascii_;
};

}  // namespace espalier::text
