// SPDX-License-Identifier: Apache-2.0
#include "espalier/text/bpe_file.h"

#include <algorithm>

#include "espalier/base/text.h"

namespace espalier::text {

nlohmann::json parse_json(std::string_view text, const std::string& file) {
  try {
    return io::parse_json(text);
  } catch (const nlohmann::json::parse_error& error) {
    fail(ErrorKind::data, "tokenizer", "the JSON is damaged at byte {} of {}, at {}: {}",
         error.byte, text.size(), file, valid_utf8(error.what()));
  }
}

void BpeMerges::add(std::string_view pair, size_t index, const std::string& place) {
  const size_t space = pair.find(' ');
  ESPALIER_CHECK(space != std::string_view::npos && pair.find(' ', space + 1) == pair.npos,
                 ErrorKind::data, "tokenizer",
                 "merge {} is {}, not two tokens with a space between them, at {}", index,
                 json_quote(pair), place);
  add(pair.substr(0, space), pair.substr(space + 1), index, place);
}

void BpeMerges::add(std::string_view left, std::string_view right, size_t index,
                    const std::string& place) {
  const auto id_of = [&](std::string_view token) {
    const auto id = tokens_.id(token);
    ESPALIER_CHECK(id.has_value(), ErrorKind::data, "tokenizer",
                   "merge {} of {} and {} needs token {}, which the vocabulary of {} lacks, at {}",
                   index, json_quote(left), json_quote(right), json_quote(token), tokens_.size(),
                   place);
    return *id;
  };
  joined_.assign(left).append(right);
  list_.push_back({id_of(left), id_of(right), id_of(joined_)});
}

std::shared_ptr<const Model> make_byte_bpe(Pattern pattern, bool nfc, const TokenTable& tokens,
                                           const BpeMerges& merges, const std::string& place) {
  ByteBpe::Options options{.pattern = pattern, .nfc = nfc, .byte_ids = {}, .merges = merges.list()};
  for (size_t byte = 0; byte < 256; ++byte) {
    const std::string& character = byte_characters()[byte];
    const auto id = tokens.id(character);
    ESPALIER_CHECK(id.has_value(), ErrorKind::data, "tokenizer",
                   "the vocabulary of {} tokens lacks {}, which stands for byte 0x{:02X}, at {}",
                   tokens.size(), json_quote(character), byte, place);
    options.byte_ids[byte] = *id;
  }
  return std::make_shared<ByteBpe>(std::move(options));
}

void add_token(const JsonNode& node, int64_t id, TokenizerParts& parts) {
  AddedToken token;
  token.content = node.at("content").string();
  token.special = node.flag("special", false);
  token.single_word = node.flag("single_word", false);
  token.lstrip = node.flag("lstrip", false);
  token.rstrip = node.flag("rstrip", false);
  token.normalized = node.flag("normalized", !token.special);
  if (token.content.empty()) return;
  const auto same = [&](const AddedToken& other) { return other.content == token.content; };
  if (std::any_of(parts.added.begin(), parts.added.end(), same)) {
    node.fail_here(fmt::format("token {} is added twice", json_quote(token.content)));
  }
  parts.tokens.add(token.content, id, node.place());
  token.id = static_cast<int32_t>(id);
  parts.added.push_back(std::move(token));
}

}  // namespace espalier::text
