// SPDX-License-Identifier: Apache-2.0
#include "espalier/base/glob.h"

#include <algorithm>

#include "espalier/base/error.h"

namespace espalier {

Glob::Glob(std::string pattern) : pattern_(std::move(pattern)) {
  ESPALIER_CHECK(!pattern_.empty(), ErrorKind::user, "glob",
                 "empty pattern; \"*\" matches every path");
  for (size_t i = 0; i < pattern_.size(); ++i) {
    const char c = pattern_[i];
    if (c == '*') {
      const bool repeated = !tokens_.empty() && tokens_.back().kind == Kind::star;
      if (!repeated) tokens_.push_back({Kind::star, c});
    } else if (c == '?') {
      tokens_.push_back({Kind::any, c});
    } else if (c == '[') {
      i = compile_set(i);
    } else {
      tokens_.push_back({Kind::literal, c});
    }
  }
  size_t first = tokens_.size();
  while (first > 0 && tokens_[first - 1].kind == Kind::literal) --first;
  for (size_t i = first; i < tokens_.size(); ++i) tail_ += tokens_[i].literal;
  only_tail_ = first == 1 && tokens_[0].kind == Kind::star;
}

size_t Glob::compile_set(size_t open) {
  size_t i = open + 1;
  const bool inverted = i < pattern_.size() && pattern_[i] == '!';
  if (inverted) ++i;
  const size_t close = pattern_.find(']', i + 1);  // a "]" that comes first belongs to the set
  ESPALIER_CHECK(close != std::string::npos, ErrorKind::user, "glob",
                 "\"[\" at position {} of pattern \"{}\" is never closed; write \"[[]\" for the "
                 "character itself",
                 open, pattern_);
  std::bitset<256> set;
  while (i < close) {
    const auto low = static_cast<unsigned char>(pattern_[i]);
    if (i + 2 < close && pattern_[i + 1] == '-') {
      const auto high = static_cast<unsigned char>(pattern_[i + 2]);
      ESPALIER_CHECK(low <= high, ErrorKind::user, "glob",
                     "range {} of pattern \"{}\" runs backwards", pattern_.substr(i, 3), pattern_);
      for (unsigned c = low; c <= high; ++c) set.set(c);
      i += 3;
    } else {
      set.set(low);
      ++i;
    }
  }
  tokens_.push_back({Kind::set, '[', static_cast<uint32_t>(sets_.size())});
  sets_.push_back(inverted ? ~set : set);
  return close;
}

bool Glob::accepts(const Token& token, char c) const {
  switch (token.kind) {
    case Kind::literal:
      return token.literal == c;
    case Kind::any:
      return true;
    case Kind::set:
      return sets_[token.set].test(static_cast<unsigned char>(c));
    case Kind::star:
      break;
  }
  return false;
}

bool Glob::matches(std::string_view path) const {
  if (!path.ends_with(tail_)) return false;
  if (only_tail_) return true;
  // Only the last star is ever widened: an earlier one already matched its shortest prefix.
  constexpr size_t kNone = static_cast<size_t>(-1);
  size_t token = 0, position = 0;
  size_t star = kNone, resume = 0;
  while (position < path.size()) {
    if (token < tokens_.size() && tokens_[token].kind == Kind::star) {
      star = token++;
      resume = position;
    } else if (token < tokens_.size() && accepts(tokens_[token], path[position])) {
      ++token;
      ++position;
    } else if (star != kNone) {
      token = star + 1;
      position = ++resume;
    } else {
      return false;
    }
  }
  while (token < tokens_.size() && tokens_[token].kind == Kind::star) ++token;
  return token == tokens_.size();
}

int64_t Glob::edits_to_match(std::string_view path) const {
  // Edit distance (Levenshtein) where a star takes any run for nothing; one row a token.
  std::vector<int64_t> row(path.size() + 1), above(path.size() + 1);
  for (size_t j = 0; j <= path.size(); ++j) above[j] = static_cast<int64_t>(j);
  for (const Token& token : tokens_) {
    const bool star = token.kind == Kind::star;
    row[0] = above[0] + (star ? 0 : 1);
    for (size_t j = 1; j <= path.size(); ++j) {
      if (star) {
        row[j] = std::min(above[j], row[j - 1]);
        continue;
      }
      const int64_t replaced = above[j - 1] + (accepts(token, path[j - 1]) ? 0 : 1);
      row[j] = std::min({replaced, above[j] + 1, row[j - 1] + 1});
    }
    std::swap(row, above);
  }
  return above[path.size()];
}

std::string Glob::nearest_hint(std::span<const std::string> paths) const {
  const std::string* best = nullptr;
  int64_t fewest = 0;
  for (const std::string& path : paths) {
    const int64_t edits = edits_to_match(path);
    if (best == nullptr || edits < fewest) {
      best = &path;
      fewest = edits;
    }
  }
  return best == nullptr ? std::string() : fmt::format("; nearest: {}", *best);
}

}  // namespace espalier
