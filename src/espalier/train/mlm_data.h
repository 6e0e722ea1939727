// SPDX-License-Identifier: Apache-2.0
// Batches for masked-language modelling (Devlin et al., 2019): 15 % of the ordinary tokens are to
// be guessed; of these 80 % are masked, 10 % replaced by a random ordinary token, 10 % left as they
// are.
//
// What is masked in a row is a function of the seed, the row's number and the place, as the row
// itself is: see packed_rows.h.
#pragma once

#include <cstdint>
#include <vector>

#include "espalier/text/tokenizer.h"
#include "espalier/train/packed_rows.h"

namespace espalier::train {

/// The tokens that masking needs. `data` error when the tokenizer lacks one of [CLS], [SEP],
/// [MASK], [PAD], or has no ordinary token.
struct MlmVocabulary {
  explicit MlmVocabulary(const text::Tokenizer& tokenizer);
  int32_t cls, sep, mask, pad;
  std::vector<int32_t> ordinary;  // ids that are not special, ascending
  std::vector<bool> is_ordinary;  // by id
};

struct MlmOptions {
  int64_t seq_len = 512;
  bool pack = true;
  double mlm_prob = 0.15;  // of an ordinary token to be labelled
  uint64_t seed = 0;
  /// Room for labels: their mean number and this many standard deviations.
  double label_sigmas = 6.0;
};

/// Masked rows, and a list of the labelled places with room for `capacity` of them.
struct MlmBatch : TokenRows {
  std::vector<int32_t> labels;  // [B, T]; the token to be guessed, else kNoLabel
  int64_t label_count = 0;
  std::vector<int32_t> label_index;  // [capacity]; b * T + t, ascending; 0 beyond label_count
  std::vector<int32_t> label_ids;    // [capacity]; kNoLabel beyond label_count
  int64_t capacity() const { return static_cast<int64_t>(label_index.size()); }
};

class MlmData {
 public:
  /// Rows of documents [first, last). `user` error when mlm_prob is outside of (0, 1].
  MlmData(const TokenDocuments& documents, int64_t first, int64_t last, MlmVocabulary vocabulary,
          const MlmOptions& options);

  int64_t rows_per_epoch() const { return rows_.size(); }
  const PackedRows& rows() const { return rows_; }

  /// Fills `batch` with rows [first, first + count) of the run. When there are more labels than the
  /// batch has room for, its capacity grows to the next bucket: none is dropped.
  void fill(int64_t first, int64_t count, MlmBatch& batch) const;

  /// Room for the labels of `rows` full rows: mean and label_sigmas standard deviations of the
  /// binomial distribution, in multiples of 64. Six of them fail one batch in a billion.
  int64_t usual_capacity(int64_t rows) const;
  /// The smallest of usual_capacity(rows), 1.25 times that, and so on, that holds `labels`.
  int64_t capacity_for(int64_t rows, int64_t labels) const;

  /// See PackedRows::section.
  CheckpointSection section(int64_t next_row) const;

 private:
  void mask_row(int64_t number, int64_t at, MlmBatch& batch) const;
  MlmVocabulary vocabulary_;
  MlmOptions options_;
  PackedRows rows_;
};

/// The rows of one worker: of every batch of `batch` rows the run takes, worker `rank` of `workers`
/// gets the same number of rows, and no row twice. `user` error when `workers` does not divide it.
struct WorkerShare {
  WorkerShare(int64_t batch, int64_t workers, int64_t rank);
  /// The worker's first row of the batch after `steps` others; `rows` follow each other.
  int64_t first(int64_t steps) const { return steps * batch + offset; }
  int64_t batch, rows, offset;
};

}  // namespace espalier::train
