// SPDX-License-Identifier: Apache-2.0
// A trained BERT on documents it may not have seen.
#pragma once

#include "espalier/train/bert_steps.h"
#include "espalier/train/run_state.h"
#include "espalier/train/run_text.h"

namespace espalier::train {

struct BertEvaluation {
  BertQuality quality;
  DocumentCounts documents;
  double unigram_entropy = 0.0;  // of the documents, nats
};

/// Rows and masks are made as in the run: its tokenizer, row length, packing, share of labels,
/// seed.
BertEvaluation evaluate_bert(const LoadedCheckpoint& loaded, const ByteData& data,
                             const TextEvalOptions& options);

}  // namespace espalier::train
