// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/causal_data.h"

#include <algorithm>

#include "espalier/base/error.h"
#include "espalier/text/byte_bpe.h"

namespace espalier::train {

CausalVocabulary::CausalVocabulary(const text::Tokenizer& tokenizer, const std::string& end_token) {
  ESPALIER_CHECK(tokenizer.kind() == "bpe", ErrorKind::unsupported, "data",
                 "the tokenizer is of the kind {}; a causal model needs bpe, over bytes",
                 tokenizer.kind());
  end = tokenizer.require_id(end_token);
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const std::string_view token = tokenizer.token(id);
    is_ordinary.push_back(!tokenizer.is_special(id) && !token.empty() && id != end);
    bytes.push_back(id == end ? 0 : static_cast<int64_t>(text::bytes_of_token(token).size()));
  }
}

CausalData::CausalData(const TokenDocuments& documents, int64_t first, int64_t last,
                       CausalVocabulary vocabulary, const PackedRows::Options& options)
    : vocabulary_(std::move(vocabulary)), rows_(documents, first, last, options) {}

void CausalData::fill(int64_t first, int64_t count, int64_t size, CausalBatch& batch) const {
  ESPALIER_ASSERT(count <= size);
  const int32_t end = vocabulary_.end;
  rows_.fill(first, count, {.before = end, .after = end, .padding = end}, batch);
  const auto places = static_cast<size_t>(size * batch.seq_len);
  batch.rows = size;
  batch.input_ids.resize(places, end);
  batch.segments.resize(places, 0);
  batch.positions.resize(places, 0);
  batch.labels.assign(places, kNoLabel);
  batch.label_count = batch.label_bytes = 0;
  for (int64_t i = 0; i < count; ++i) {
    int64_t place = i * batch.seq_len;
    for (const DocumentPiece& piece : rows_.row(rows_.row_at(first + i))) {
      const int64_t guessed = piece.size + (piece.last ? 1 : 0);
      for (int64_t k = 1; k <= guessed; ++k) {
        const auto at = static_cast<size_t>(place + k);
        const int32_t id = batch.input_ids[at];
        batch.labels[at] = id;
        batch.label_bytes += vocabulary_.bytes[static_cast<size_t>(id)];
      }
      batch.label_count += guessed;
      place += piece.size + 2;
    }
  }
}

}  // namespace espalier::train
