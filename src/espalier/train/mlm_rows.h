// SPDX-License-Identifier: Apache-2.0
// Rows of fixed length for a masked-language model: which pieces of which documents lie in each.
//
// A document of n tokens takes n + 2 places, with [CLS] before and [SEP] behind it; a longer one
// than a row is cut into pieces that are full but for the last. Packed rows hold several pieces,
// each a segment of its own; else a row is one piece and padding.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "espalier/train/documents.h"

namespace espalier::train {

/// Tokens [begin, begin + size) of the documents' ids.
struct DocumentPiece {
  int64_t begin = 0;
  int64_t size = 0;
};

class MlmRows {
 public:
  struct Options {
    int64_t seq_len = 512;
    bool pack = true;
    uint64_t seed = 0;  // of the order in which pieces are packed
  };
  /// Rows of documents [first, last). `user` error unless seq_len is at least 3, `data` when the
  /// range is empty.
  MlmRows(const TokenDocuments& documents, int64_t first, int64_t last, const Options& options);

  int64_t size() const { return static_cast<int64_t>(starts_.size()) - 1; }
  std::span<const DocumentPiece> row(int64_t i) const {
    const auto at = static_cast<size_t>(i);
    return std::span(pieces_).subspan(starts_[at], starts_[at + 1] - starts_[at]);
  }
  /// Documents that were longer than a row.
  int64_t long_documents() const { return long_documents_; }
  /// Places that hold a token, [CLS] and [SEP] included, of all places.
  double filled() const { return filled_; }

 private:
  std::vector<DocumentPiece> pieces_;  // by row
  std::vector<size_t> starts_;         // of rows in pieces_, and the end
  int64_t long_documents_ = 0;
  double filled_ = 0.0;
};

}  // namespace espalier::train
