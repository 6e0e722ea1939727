// SPDX-License-Identifier: Apache-2.0
// A WordPiece vocabulary learned from text: words are counted, and the most frequent pair of
// neighbouring pieces is joined again and again (byte-pair encoding over characters; Sennrich et
// al., 2016). The result is a function of the text and the options: ties go to the pair whose
// pieces were made first.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/text/bert_normalizer.h"

namespace espalier::text {

struct VocabOptions {
  int64_t size = 8192;            // tokens at most, the five special ones included
  int64_t min_count = 2;          // of a pair that is joined
  int64_t max_characters = 1000;  // of the alphabet; the most frequent stay
  BertNormalizerOptions normalizer;
};

/// Tokens by id: [PAD], [UNK], [CLS], [SEP], [MASK], then characters, then pieces in the order they
/// were made; pieces that continue a word begin with "##". Invalid UTF-8 is replaced. `user` error
/// when `size` leaves no room, `data` when the text has no words.
std::vector<std::string> build_vocabulary(std::string_view text, const VocabOptions& options);

/// One token a line, as vocab.txt.
std::string vocab_txt(const std::vector<std::string>& tokens);

}  // namespace espalier::text
