// SPDX-License-Identifier: Apache-2.0
// Batches for causal language models: every token is to be guessed from those before it.
//
// A piece of a document begins with the token that ends texts, so its first token is guessed too,
// from nothing; where the document ends, so is its end. Pieces see themselves only.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "espalier/text/tokenizer.h"
#include "espalier/train/packed_rows.h"

namespace espalier::train {

/// What a causal model needs to know of its tokens. Throws `unsupported` for a tokenizer that is
/// not over bytes, `data` when it lacks `end_token`.
struct CausalVocabulary {
  CausalVocabulary(const text::Tokenizer& tokenizer, const std::string& end_token);
  int32_t end;
  std::vector<bool> is_ordinary;  // by id: neither special nor without a token
  std::vector<int64_t> bytes;     // by id: of text that the token stands for; of `end`: none
};

struct CausalBatch : TokenRows {
  std::vector<int32_t> labels;  // [B, T]; the place's token where it is guessed, else kNoLabel
  int64_t label_count = 0;
  int64_t label_bytes = 0;  // of text
};

class CausalData {
 public:
  /// Rows of documents [first, last); see PackedRows.
  CausalData(const TokenDocuments& documents, int64_t first, int64_t last,
             CausalVocabulary vocabulary, const PackedRows::Options& options);

  const PackedRows& rows() const { return rows_; }
  /// Fills `batch` with rows [first, first + count) of the run and padding up to `size` rows.
  void fill(int64_t first, int64_t count, int64_t size, CausalBatch& batch) const;

 private:
  CausalVocabulary vocabulary_;
  PackedRows rows_;
};

}  // namespace espalier::train
