// SPDX-License-Identifier: Apache-2.0
// WordPiece: a word is cut into the longest piece of the vocabulary that it begins with, then the
// longest continuation, and so on; a word with a part that no piece begins is unknown as a whole
// (Schuster and Nakajima, 2012; Devlin et al., 2019).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/text/bert_normalizer.h"
#include "espalier/text/byte_trie.h"
#include "espalier/text/model.h"

namespace espalier::text {

class WordPiece final : public Model {
 public:
  struct Options {
    BertNormalizerOptions normalizer;
    std::string continuation = "##";  // begins the tokens that continue a word
    int32_t unknown = 0;              // id
    int64_t max_chars = 100;          // longer words are unknown
  };
  static constexpr int64_t kMaxChars = 1 << 20;  // of max_chars

  /// `tokens` by id; an empty one stands for no token.
  WordPiece(Options options, const std::vector<std::string_view>& tokens);

  void encode(std::string_view text, Workspace& work, IdWriter& out) const override;
  void normalize(std::string_view text, std::string& out) const override;
  void encode_normalized(std::string_view text, Workspace& work, IdWriter& out) const override;

  const BertNormalizer& normalizer() const { return normalizer_; }

 private:
  class WordBuilder;
  void pieces_of(std::string_view word, std::vector<int32_t>& ids) const;
  void put_word(std::string_view word, int64_t chars, Workspace& work, IdWriter& out) const;

  Options options_;
  BertNormalizer normalizer_;
  ByteTrie first_, continuing_;
};

}  // namespace espalier::text
