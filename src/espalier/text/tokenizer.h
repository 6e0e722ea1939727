// SPDX-License-Identifier: Apache-2.0
// Text to token ids and back, exactly as the Hugging Face library `tokenizers` does it, for the two
// kinds that this project's models use: WordPiece with BERT's normalization, and byte-level BPE.
//
//   const text::Tokenizer tokenizer = text::Tokenizer::open("model");
//   text::Workspace work;                       // one a thread
//   std::vector<int32_t> ids;
//   tokenizer.encode("Hello", {}, work, ids);   // appends
//
// A tokenizer is immutable: any number of threads may share it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "espalier/text/added_tokens.h"
#include "espalier/text/model.h"
#include "espalier/text/token_table.h"

namespace espalier::text {

struct EncodeOptions {
  bool special = true;  // puts the tokens around the text that the tokenizer is set up for
};

enum class DecoderKind { word_piece, byte_level, other };

/// How tokens become text again.
struct Decoder {
  DecoderKind kind = DecoderKind::other;
  std::string continuation = "##";  // of word_piece
  bool cleanup = true;              // of word_piece: no space before punctuation
  std::string name = "none";        // for messages
};

/// What a tokenizer is made of; see tokenizer_file.h for where that comes from.
struct TokenizerParts {
  std::shared_ptr<const Model> model;
  TokenTable tokens;  // of the model and the added ones
  std::vector<AddedToken> added;
  std::vector<int32_t> before, after;  // ids around a text
  Decoder decoder;
  std::string kind;  // "wordpiece" or "bpe"
};

class Tokenizer {
 public:
  /// Reads a folder with tokenizer.json, with vocab.txt, or with vocab.json and merges.txt (the
  /// first of these that is there), or one of the files alone. `user` error when there is none,
  /// `data` when it is damaged, `unsupported` when it asks for something else than the two kinds.
  static Tokenizer open(const std::filesystem::path& path);

  explicit Tokenizer(TokenizerParts parts);

  /// Appends the ids of `text`. Where it is not valid UTF-8, U+FFFD takes the place of each maximal
  /// invalid part; returns how many.
  int64_t encode(std::string_view text, const EncodeOptions& options, Workspace& work,
                 std::vector<int32_t>& ids) const;
  /// The same with a workspace of its own, for one text.
  std::vector<int32_t> encode(std::string_view text, const EncodeOptions& options = {}) const;

  /// The text of `ids`; `data` error for one outside of the vocabulary. Bytes that are not valid
  /// UTF-8 become U+FFFD.
  std::string decode(std::span<const int32_t> ids, bool skip_special = false) const;

  /// One more than the largest id: the rows an embedding needs.
  int64_t vocab_size() const { return parts_.tokens.size(); }
  /// The id of a token as the file spells it.
  std::optional<int32_t> id(std::string_view token) const { return parts_.tokens.id(token); }
  /// The same; a `data` error names the token when the vocabulary has none.
  int32_t require_id(std::string_view token) const;
  /// Empty for ids without a token.
  std::string_view token(int32_t id) const { return parts_.tokens.token(id); }
  bool is_special(int32_t id) const;
  std::span<const int32_t> ids_before() const { return parts_.before; }
  std::span<const int32_t> ids_after() const { return parts_.after; }
  const std::string& kind() const { return parts_.kind; }

 private:
  void encode_segment(std::string_view text, Workspace& work, IdWriter& out) const;
  TokenizerParts parts_;
  AddedTokenFinder raw_, normalized_;
  std::vector<bool> special_;  // by id
  std::unordered_map<int32_t, std::string>
      written_;  // where decode does not write the token itself
};

}  // namespace espalier::text
