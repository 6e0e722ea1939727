// SPDX-License-Identifier: Apache-2.0
#include "espalier/text/tokenizer.h"

#include <array>

#include "espalier/base/error.h"
#include "espalier/text/byte_bpe.h"
#include "espalier/text/utf8.h"

namespace espalier::text {
namespace {

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
}

/// The spaces that English does not write, and contractions joined.
void clean_up(std::string& token) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 11> kRules{{
      {" .", "."},
      {" ?", "?"},
      {" !", "!"},
      {" ,", ","},
      {" ' ", "'"},
      {" n't", "n't"},
      {" 'm", "'m"},
      {" do not", " don't"},
      {" 's", "'s"},
      {" 've", "'ve"},
      {" 're", "'re"},
  }};
  for (const auto& [from, to] : kRules) replace_all(token, from, to);
}

}  // namespace

Tokenizer::Tokenizer(TokenizerParts parts) : parts_(std::move(parts)) {
  special_.resize(static_cast<size_t>(parts_.tokens.size()));
  for (const AddedToken& token : parts_.added) {
    if (token.special) special_[static_cast<size_t>(token.id)] = true;
    if (!token.normalized) {
      raw_.add(token, token.content);
      continue;
    }
    std::string content;
    parts_.model->normalize(token.content, content);
    if (!content.empty()) normalized_.add(token, content);
    if (content != token.content) written_.emplace(token.id, std::move(content));
  }
}

int64_t Tokenizer::encode(std::string_view text, const EncodeOptions& options, Workspace& work,
                          std::vector<int32_t>& ids) const {
  work.use_for(parts_.model);
  int64_t replaced = 0;
  if (valid_utf8_prefix(text) != text.size()) {
    work.repaired.clear();
    replaced = append_repaired_utf8(text, work.repaired);
    text = work.repaired;
  }
  IdWriter out(ids);
  if (options.special) out.put(parts_.before);
  AddedTokenFinder::Cursor cursor;
  AddedTokenFinder::Part part;
  if (raw_.empty()) {
    encode_segment(text, work, out);
  } else {
    while (raw_.next(text, cursor, part)) {
      if (part.id >= 0) {
        out.put(part.id);
      } else {
        encode_segment(part.text, work, out);
      }
    }
  }
  if (options.special) out.put(parts_.after);
  return replaced;
}

void Tokenizer::encode_segment(std::string_view text, Workspace& work, IdWriter& out) const {
  if (normalized_.empty()) {
    parts_.model->encode(text, work, out);
    return;
  }
  std::string normal;
  parts_.model->normalize(text, normal);
  AddedTokenFinder::Cursor cursor;
  AddedTokenFinder::Part part;
  while (normalized_.next(normal, cursor, part)) {
    if (part.id >= 0) {
      out.put(part.id);
    } else {
      parts_.model->encode_normalized(part.text, work, out);
    }
  }
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  Workspace work;
  std::vector<int32_t> ids;
  encode(text, options, work, ids);
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  const Decoder& decoder = parts_.decoder;
  ESPALIER_CHECK(decoder.kind != DecoderKind::other, ErrorKind::unsupported, "tokenizer",
                 "decoder {} is not supported: WordPiece and ByteLevel are", decoder.name);
  std::string text;
  bool first = true;
  for (const int32_t id : ids) {
    ESPALIER_CHECK(parts_.tokens.contains(id), ErrorKind::data, "tokenizer",
                   "id {} has no token in a vocabulary of {}", id, vocab_size());
    if (skip_special && is_special(id)) continue;
    const auto other = written_.find(id);
    const std::string_view token =
        other == written_.end() ? parts_.tokens.token(id) : std::string_view(other->second);
    if (decoder.kind == DecoderKind::byte_level) {
      text += bytes_of_token(token);
      continue;
    }
    std::string word;
    if (first) {
      word = token;
    } else if (token.starts_with(decoder.continuation)) {
      word = token.substr(decoder.continuation.size());
    } else {
      word.append(" ").append(token);
    }
    first = false;
    if (decoder.cleanup) clean_up(word);
    text += word;
  }
  if (valid_utf8_prefix(text) == text.size()) return text;
  std::string repaired;
  append_repaired_utf8(text, repaired);
  return repaired;
}

int32_t Tokenizer::require_id(std::string_view token) const {
  const auto found = id(token);
  ESPALIER_CHECK(found.has_value(), ErrorKind::data, "tokenizer",
                 "the vocabulary of {} tokens has no {}", vocab_size(), token);
  return *found;
}

bool Tokenizer::is_special(int32_t id) const {
  return id >= 0 && static_cast<size_t>(id) < special_.size() && special_[static_cast<size_t>(id)];
}

}  // namespace espalier::text
