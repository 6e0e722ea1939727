// SPDX-License-Identifier: Apache-2.0
#include "espalier/text/added_tokens.h"

#include <algorithm>

#include "espalier/text/unicode.h"
#include "espalier/text/utf8.h"

namespace espalier::text {
namespace {

bool is_single_word(std::string_view text, size_t begin, size_t end) {
  const char* before = text.data() + begin;
  if (begin > 0 && is_word(previous_code_point(before))) return false;
  const char* after = text.data() + end;
  return end == text.size() || !is_word(next_code_point(after));
}

/// `begin` moved before the white space that ends there.
size_t before_white_space(std::string_view text, size_t begin) {
  while (begin > 0) {
    const char* at = text.data() + begin;
    if (!is_white_space(previous_code_point(at))) break;
    begin = static_cast<size_t>(at - text.data());
  }
  return begin;
}

size_t after_white_space(std::string_view text, size_t end) {
  while (end < text.size()) {
    const char* at = text.data() + end;
    if (!is_white_space(next_code_point(at))) break;
    end = static_cast<size_t>(at - text.data());
  }
  return end;
}

}  // namespace

void AddedTokenFinder::add(const AddedToken& token, std::string_view content) {
  trie_.add(content, static_cast<int32_t>(tokens_.size()));
  tokens_.push_back(token);
}

bool AddedTokenFinder::next(std::string_view text, Cursor& cursor, Part& part) const {
  if (cursor.pending.id >= 0) {
    part = cursor.pending;
    cursor.pending.id = -1;
    return true;
  }
  if (cursor.at >= text.size()) return false;
  for (size_t i = cursor.search; i < text.size(); ++i) {
    if (!trie_.starts(text[i])) continue;
    const ByteTrie::Match match = trie_.longest(text.substr(i));
    if (match.value < 0) continue;
    const AddedToken& token = tokens_[static_cast<size_t>(match.value)];
    size_t begin = i;
    size_t end = i + match.size;
    if (token.single_word && !is_single_word(text, begin, end)) {
      i = end - 1;
      continue;
    }
    cursor.search = end;
    // What an earlier token has taken stays with it.
    if (token.lstrip) begin = std::max(before_white_space(text, begin), cursor.at);
    if (token.rstrip) end = after_white_space(text, end);
    begin = std::max(begin, cursor.at);
    const Part found{text.substr(begin, end - begin), token.id};
    const size_t start = cursor.at;
    cursor.at = end;
    if (start < begin) {
      part = {text.substr(start, begin - start), -1};
      cursor.pending = found;
    } else {
      part = found;
    }
    return true;
  }
  part = {text.substr(cursor.at), -1};
  cursor.at = text.size();
  return true;
}

}  // namespace espalier::text
