// SPDX-License-Identifier: Apache-2.0
// Properties of characters and normalization forms, from ICU.
//
// A tokenizer's ids depend on the Unicode version of the tables it was made with. The library that
// defines tokenizer.json uses three generations at once: categories of Unicode 8 in BERT's
// normalizer, normalization of Unicode 9, categories of its regular expressions newer than ICU's
// (15). ICU knows the version that each character appeared in, which makes the older tables out of
// its own; docs/decisions/unicode.md lists how they were compared.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace espalier::text {

/// One value for each code point, in blocks of 256 of which equal ones are stored once.
template <typename T>
class CodePointTable {
 public:
  /// `value(c)` is asked for every code point, but once for all of planes 4 to 13, where no version
  /// of Unicode has characters.
  template <typename Fn>
  explicit CodePointTable(Fn value) {
    std::map<std::array<T, kBlock>, uint16_t> known;
    std::array<T, kBlock> block;
    for (char32_t start = 0; start < 0x110000; start += kBlock) {
      if (start > 0x40000 && start < 0xE0000) {
        index_.push_back(index_.back());
        continue;
      }
      for (char32_t i = 0; i < kBlock; ++i) block[i] = value(start + i);
      const auto [it, inserted] = known.try_emplace(block, static_cast<uint16_t>(known.size()));
      if (inserted) cells_.insert(cells_.end(), block.begin(), block.end());
      index_.push_back(it->second);
    }
  }

  T operator[](char32_t c) const { return cells_[(size_t{index_[c >> 8]} << 8) | (c & 0xFF)]; }

 private:
  static constexpr char32_t kBlock = 256;
  std::vector<uint16_t> index_;
  std::vector<T> cells_;
};

// Unicode 15, as in regular expressions.
bool is_letter(char32_t c);       // \p{L}
bool is_number(char32_t c);       // \p{N}
bool is_white_space(char32_t c);  // \s
bool is_word(char32_t c);         // \w

// Unicode 8, as in BERT's normalizer and pre-tokenizer.
bool is_bert_control(char32_t c);      // Cc, Cf, Co but tab, line feed, carriage return
bool is_bert_punctuation(char32_t c);  // P*, and every ASCII symbol
bool is_bert_accent(char32_t c);       // Mn
/// The ranges that BERT calls Chinese.
bool is_bert_chinese(char32_t c);

/// Appends the lower case of `c` without regard to its context (U+0130 gives two code points).
void append_lower(char32_t c, std::u32string& out);

// Normalization of Unicode 9: later characters are left alone and end a sequence.
/// Canonical combining class; 0: a starter.
int combining_class(char32_t c);
/// Appends the full canonical decomposition of `c`, or `c` itself.
void append_decomposed(char32_t c, std::u32string& out);
/// True when `c` may change under NFC or make its neighbours change: text without such characters
/// is its own NFC.
bool may_change_in_nfc(char32_t c);
/// Appends the canonical composition (NFC) of valid UTF-8 of less than 1 GiB; `data` error beyond.
void append_nfc(std::string_view text, std::string& out);
/// The canonical decomposition (NFD), likewise.
void append_nfd(std::string_view text, std::string& out);

}  // namespace espalier::text
