// SPDX-License-Identifier: Apache-2.0
// What the readers of tokenizer.json and of vocab.json with merges.txt share. Internal to text.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/text/byte_bpe.h"
#include "espalier/text/json_node.h"
#include "espalier/text/tokenizer.h"

namespace espalier::text {

/// Merges by the ids of their tokens. `index` counts them for messages, from 0.
class BpeMerges {
 public:
  explicit BpeMerges(const TokenTable& tokens) : tokens_(tokens) {}
  /// "left right"
  void add(std::string_view pair, size_t index, const std::string& place);
  void add(std::string_view left, std::string_view right, size_t index, const std::string& place);
  const std::vector<ByteBpe::Merge>& list() const { return list_; }

 private:
  const TokenTable& tokens_;
  std::vector<ByteBpe::Merge> list_;
  std::string joined_;
};

/// `data` error when the vocabulary lacks the token of a byte.
std::shared_ptr<const Model> make_byte_bpe(Pattern pattern, bool nfc, const TokenTable& tokens,
                                           const BpeMerges& merges, const std::string& place);

/// Adds a token as tokenizer.json and tokenizer_config.json describe it.
void add_token(const JsonNode& node, int64_t id, TokenizerParts& parts);

}  // namespace espalier::text
