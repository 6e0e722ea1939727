// SPDX-License-Identifier: Apache-2.0
#include "espalier/text/bert_normalizer.h"

#include <algorithm>

#include "espalier/base/error.h"
#include "espalier/text/utf8.h"

namespace espalier::text {

BertNormalizer::BertNormalizer(const BertNormalizerOptions& options)
    : options_(options), actions_([this](char32_t c) { return make_action(c); }) {
  for (char32_t c = 0; c < 128; ++c) ascii_[c] = actions_[c];
  places_.clear();
}

CharacterAction BertNormalizer::make_action(char32_t c) {
  if (c >= 0xD800 && c < 0xE000) return {};  // surrogates never occur in valid UTF-8
  if (options_.clean_text) {
    if (c == 0 || c == 0xFFFD || is_bert_control(c)) return {CharacterAction::drop};
    if (is_white_space(c)) return {CharacterAction::space};
  }
  const bool chinese = options_.handle_chinese_chars && is_bert_chinese(c);
  std::u32string parts;
  if (options_.strip_accents) {
    append_decomposed(c, parts);
    std::erase_if(parts, is_bert_accent);
    if (parts.empty()) return {CharacterAction::drop};
    if (std::any_of(parts.begin(), parts.end(), combining_class)) {
      return {CharacterAction::sequence};
    }
  } else {
    parts.push_back(c);
  }
  std::u32string result;
  for (const char32_t part : parts) {
    if (options_.lowercase) {
      append_lower(part, result);
    } else {
      result.push_back(part);
    }
  }

  CharacterAction::Kind kind =
      result == std::u32string_view(&c, 1) ? CharacterAction::keep : CharacterAction::map;
  const auto apart = [](char32_t part) {
    return is_white_space(part) || is_bert_punctuation(part);
  };
  if (chinese) {
    kind = CharacterAction::alone;
  } else if (std::any_of(result.begin(), result.end(), apart)) {
    if (result.size() > 1) return {CharacterAction::sequence};
    if (is_white_space(result[0])) return {CharacterAction::space};
    kind = CharacterAction::alone;
  }
  if (result == std::u32string_view(&c, 1)) return {kind};
  std::string bytes;
  for (const char32_t part : result) append_utf8(part, bytes);
  const auto [it, inserted] = places_.try_emplace(bytes, static_cast<uint16_t>(pool_.size() / 4));
  if (inserted) {
    pool_ += bytes;
    pool_.resize((pool_.size() + 3) / 4 * 4);
    ESPALIER_ASSERT(pool_.size() / 4 <= UINT16_MAX);
  }
  return {kind, static_cast<uint8_t>(bytes.size()), it->second};
}

void BertNormalizer::append_normalized(std::string_view text, std::string& out) const {
  std::string clean;
  const char* end = text.data() + text.size();
  for (const char* at = text.data(); at < end;) {
    char32_t c = next_code_point(at);
    if (options_.clean_text) {
      if (c == 0 || c == 0xFFFD || is_bert_control(c)) continue;
      if (is_white_space(c)) c = ' ';
    }
    const bool chinese = options_.handle_chinese_chars && is_bert_chinese(c);
    if (chinese) clean.push_back(' ');
    append_utf8(c, clean);
    if (chinese) clean.push_back(' ');
  }
  std::string decomposed;
  if (options_.strip_accents) {
    append_nfd(clean, decomposed);
  } else {
    decomposed.swap(clean);
  }
  std::u32string lower;
  end = decomposed.data() + decomposed.size();
  for (const char* at = decomposed.data(); at < end;) {
    const char32_t c = next_code_point(at);
    if (options_.strip_accents && is_bert_accent(c)) continue;
    lower.clear();
    if (options_.lowercase) {
      append_lower(c, lower);
    } else {
      lower.push_back(c);
    }
    for (const char32_t part : lower) append_utf8(part, out);
  }
}

}  // namespace espalier::text
