// SPDX-License-Identifier: Apache-2.0
#include "espalier/text/token_table.h"

#include <algorithm>

#include "espalier/base/error.h"
#include "espalier/base/text.h"

namespace espalier::text {
namespace {

/// Ids may leave gaps; this many are allowed beyond four for each token.
constexpr int64_t kGaps = 1 << 16;

}  // namespace

void TokenTable::reserve(size_t count) {
  ids_.reserve(count);
  tokens_.reserve(count);
}

void TokenTable::add(std::string_view token, int64_t id, const std::string& place) {
  const int64_t limit = 4 * static_cast<int64_t>(std::max(ids_.size(), tokens_.capacity())) + kGaps;
  ESPALIER_CHECK(id >= 0, ErrorKind::data, "tokenizer", "token {} has the negative id {}, at {}",
                 json_quote(token), id, place);
  ESPALIER_CHECK(id < limit && id < (int64_t{1} << 30), ErrorKind::data, "tokenizer",
                 "token {} has the id {} in a vocabulary of about {} tokens, at {}",
                 json_quote(token), id, std::max(ids_.size(), tokens_.capacity()), place);
  if (id >= size()) tokens_.resize(static_cast<size_t>(id) + 1, nullptr);
  const auto [it, inserted] = ids_.try_emplace(std::string(token), static_cast<int32_t>(id));
  ESPALIER_CHECK(inserted || it->second == id, ErrorKind::data, "tokenizer",
                 "token {} has two ids, {} and {}, at {}", json_quote(token), it->second, id,
                 place);
  const std::string*& slot = tokens_[static_cast<size_t>(id)];
  ESPALIER_CHECK(slot == nullptr || slot == &it->first, ErrorKind::data, "tokenizer",
                 "id {} is given to two tokens, {} and {}, at {}", id,
                 json_quote(slot == nullptr ? "" : *slot), json_quote(token), place);
  slot = &it->first;
}

std::optional<int32_t> TokenTable::id(std::string_view token) const {
  const auto it = ids_.find(token);
  if (it == ids_.end()) return std::nullopt;
  return it->second;
}

std::vector<std::string_view> TokenTable::list() const {
  std::vector<std::string_view> tokens(tokens_.size());
  for (size_t id = 0; id < tokens_.size(); ++id) {
    if (tokens_[id] != nullptr) tokens[id] = *tokens_[id];
  }
  return tokens;
}

}  // namespace espalier::text
