// SPDX-License-Identifier: Apache-2.0
#include "espalier/text/pre_tokenizer.h"

#include <array>

#include "espalier/base/error.h"
#include "espalier/text/utf8.h"

namespace espalier::text {
namespace {

constexpr uint8_t kLetter = PatternClass::kLetter, kNumber = PatternClass::kNumber,
                  kSpace = PatternClass::kSpace, kLineEnd = PatternClass::kLineEnd;

struct Known {
  Pattern pattern;
  std::string_view name, regex;
};

constexpr std::array<Known, 3> kKnown{{
    {Pattern::gpt2, "gpt2",
     R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"},
    {Pattern::qwen2, "qwen2",
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
     R"(\s*[\r\n]+|\s+(?!\S)|\s+)"},
    {Pattern::llama3, "llama3",
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
     R"(\s*[\r\n]+|\s+(?!\S)|\s+)"},
}};

uint8_t class_of(char32_t c) {
  uint8_t value = 0;
  if (is_letter(c)) value |= kLetter;
  if (is_number(c)) value |= kNumber;
  if (is_white_space(c)) value |= kSpace;
  if (c == '\r' || c == '\n') value |= kLineEnd;
  if (may_change_in_nfc(c)) value |= PatternClass::kMayChange;
  return value;
}

const std::array<uint8_t, 128>& ascii_classes() {
  static const auto made = [] {
    std::array<uint8_t, 128> table{};
    for (char32_t c = 0; c < 128; ++c) table[c] = class_of(c);
    return table;
  }();
  return made;
}

}  // namespace

Pattern pattern_of(std::string_view regex) {
  for (const Known& known : kKnown) {
    if (known.regex == regex) return known.pattern;
  }
  fail(ErrorKind::unsupported, "tokenizer",
       "the pre-tokenizer's pattern {} is none of the known ones: those of gpt2, qwen2 and llama3",
       regex);
}

std::string_view name(Pattern pattern) {
  for (const Known& known : kKnown) {
    if (known.pattern == pattern) return known.name;
  }
  return "";
}

const CodePointTable<uint8_t>& pattern_classes() {
  static const CodePointTable<uint8_t> made(class_of);
  return made;
}

WordScanner::Rules WordScanner::rules_of(Pattern pattern) {
  switch (pattern) {
    case Pattern::gpt2:
      return {.any_before_letters = false, .ignore_case = false, .line_ends = false, .digits = 0};
    case Pattern::qwen2:
      return {.any_before_letters = true, .ignore_case = true, .line_ends = true, .digits = 1};
    case Pattern::llama3:
      break;
  }
  return {.any_before_letters = true, .ignore_case = true, .line_ends = true, .digits = 3};
}

WordScanner::WordScanner(Pattern pattern, std::string_view text)
    : rules_(rules_of(pattern)),
      classes_(pattern_classes()),
      ascii_(ascii_classes().data()),
      at_(text.data()),
      end_(text.data() + text.size()) {}

inline uint8_t WordScanner::class_at(const char* at) const {
  const auto byte = static_cast<uint8_t>(*at);
  return byte < 0x80 ? ascii_[byte] : classes_[next_code_point(at)];
}

inline const char* WordScanner::after(const char* at) const {
  if (static_cast<uint8_t>(*at) < 0x80) return at + 1;
  next_code_point(at);
  return at;
}

/// Past the characters that have one of `classes`.
inline const char* WordScanner::skip(const char* at, uint8_t classes) const {
  while (at < end_) {
    const auto byte = static_cast<uint8_t>(*at);
    const char* following = at + 1;
    uint8_t found;
    if (byte < 0x80) {
      found = ascii_[byte];
    } else {
      following = at;
      found = classes_[next_code_point(following)];
    }
    if ((found & classes) == 0) break;
    at = following;
  }
  return at;
}

/// Past the characters that are no letter, number or white space.
inline const char* WordScanner::skip_others(const char* at) const {
  while (at < end_ && (class_at(at) & (kLetter | kNumber | kSpace)) == 0) at = after(at);
  return at;
}

/// The end of 's, 't, 're, 've, 'm, 'll or 'd at `at`, which is an apostrophe; nullptr: none.
const char* WordScanner::contraction(const char* at) const {
  const auto lower = [&](const char* p) -> char {
    if (p >= end_) return 0;
    return rules_.ignore_case && *p >= 'A' && *p <= 'Z' ? static_cast<char>(*p + 32) : *p;
  };
  const char first = lower(at + 1);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return at + 2;
  // The long s (U+017F) is an s when case does not count.
  if (rules_.ignore_case && first == '\xC5' && at[2] == '\xBF') return at + 3;
  const char second = first == 0 ? '\0' : lower(at + 2);
  const bool two = (first == 'r' && second == 'e') || (first == 'v' && second == 'e') ||
                   (first == 'l' && second == 'l');
  return two ? at + 3 : nullptr;
}

/// The end of the white space word at `at`: \s*[\r\n]+|\s+(?!\S)|\s+
const char* WordScanner::white_space(const char* at) const {
  const char* run = skip(at, kSpace);
  if (rules_.line_ends) {
    for (const char* p = run; p > at; --p) {
      if (p[-1] == '\n' || p[-1] == '\r') return p;
    }
  }
  if (run == end_) return run;
  // The last character of the run belongs to the word that follows, unless it is the only one.
  const char* last = run;
  previous_code_point(last);
  return last > at ? last : run;
}

std::string_view WordScanner::next() {
  if (at_ == end_) return {};
  const char* start = at_;
  const uint8_t first = class_at(start);
  if (*start == '\'') {
    if (const char* end = contraction(start)) {
      at_ = end;
      return {start, static_cast<size_t>(at_ - start)};
    }
  }
  const char* second = after(start);
  const uint8_t following = second < end_ ? class_at(second) : kLineEnd | kSpace;
  const bool space = *start == ' ';
  if ((first & kLetter) != 0) {
    at_ = skip(second, kLetter);
  } else if ((following & kLetter) != 0 &&
             (rules_.any_before_letters ? (first & (kNumber | kLineEnd)) == 0 : space)) {
    at_ = skip(second, kLetter);
  } else if ((first & kNumber) != 0) {
    at_ = second;
    if (rules_.digits == 0) {
      at_ = skip(second, kNumber);
    } else {
      for (int i = 1; i < rules_.digits && at_ < end_ && (class_at(at_) & kNumber) != 0; ++i) {
        at_ = after(at_);
      }
    }
  } else if (rules_.digits == 0 && space && (following & kNumber) != 0) {
    at_ = skip(second, kNumber);
  } else if ((first & kSpace) == 0 || (space && (following & (kSpace | kLetter | kNumber)) == 0)) {
    at_ = skip_others(second);
    if (rules_.line_ends) at_ = skip(at_, kLineEnd);
  } else {
    at_ = white_space(start);
  }
  return {start, static_cast<size_t>(at_ - start)};
}

}  // namespace espalier::text
