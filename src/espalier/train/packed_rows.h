// SPDX-License-Identifier: Apache-2.0
// Rows of fixed length for models of text: which pieces of which documents lie in each.
//
// A document of n tokens takes n + 2 places, with a token of the model's before it and one behind
// it ([CLS] and [SEP], or the end of a text); a longer one than a row is cut into pieces that are
// full but for the last. Packed rows hold several pieces, each a segment of its own; else a row is
// one piece and padding.
//
// Row number g of a run, counted through all epochs, is a function of the seed and g. So a resumed
// run needs g only, and neither the number of workers nor the cut into batches changes what is
// trained on: a worker takes its share of the numbers.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "espalier/train/checkpoint.h"
#include "espalier/train/documents.h"

namespace espalier::train {

/// Tokens [begin, begin + size) of the documents' ids.
struct DocumentPiece {
  int64_t begin = 0;
  int64_t size = 0;
  bool last = true;  // of its document
};

/// The tokens that a model puts around pieces, and on places that are left.
struct RowMarks {
  int32_t before = 0, after = 0, padding = 0;
};

/// B rows of T places.
struct TokenRows {
  int64_t rows = 0, seq_len = 0;
  std::vector<int32_t> input_ids;  // [B, T]
  std::vector<int32_t> segments;   // [B, T]; 1, 2, ... within a row, 0 on padding
  std::vector<int32_t> positions;  // [B, T]; from 0 in each segment, 0 on padding
};

inline constexpr int32_t kNoLabel = -100;

class PackedRows {
 public:
  struct Options {
    int64_t seq_len = 512;
    bool pack = true;
    uint64_t seed = 0;  // of the order in which pieces are packed and rows are taken
  };
  /// Rows of documents [first, last), which the object copies a reference to, not the tokens.
  /// `user` error unless seq_len is at least 3, `data` when the range is empty.
  PackedRows(const TokenDocuments& documents, int64_t first, int64_t last, const Options& options);

  int64_t size() const { return static_cast<int64_t>(starts_.size()) - 1; }
  std::span<const DocumentPiece> row(int64_t i) const {
    const auto at = static_cast<size_t>(i);
    return std::span(pieces_).subspan(starts_[at], starts_[at + 1] - starts_[at]);
  }
  /// Documents that were longer than a row.
  int64_t long_documents() const { return long_documents_; }
  /// Places that hold a token, those around pieces included, of all places.
  double filled() const { return filled_; }

  /// The row that number `number` of the run is.
  int64_t row_at(int64_t number) const;
  /// Fills `out` with rows [first, first + count) of the run.
  void fill(int64_t first, int64_t count, const RowMarks& marks, TokenRows& out) const;

  /// What a checkpoint keeps: the next row, and what it must agree in to mean the same row.
  CheckpointSection section(int64_t next_row) const;

 private:
  TokenDocuments documents_;
  Options options_;
  std::vector<DocumentPiece> pieces_;  // by row
  std::vector<size_t> starts_;         // of rows in pieces_, and the end
  int64_t long_documents_ = 0;
  double filled_ = 0.0;
};

/// The number of documents to train on when the last `holdout` (in [0, 1)) of the tokens are kept
/// apart, in whole documents; at least one document stays on each side unless holdout is 0.
int64_t documents_to_train(const TokenDocuments& documents, double holdout);

}  // namespace espalier::train
