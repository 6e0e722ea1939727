// SPDX-License-Identifier: Apache-2.0
// A trained BERT on documents it may not have seen.
#pragma once

#include "espalier/train/bert_steps.h"
#include "espalier/train/bert_text.h"
#include "espalier/train/run_state.h"

namespace espalier::train {

struct BertEvalOptions {
  int64_t batch_size = 16;  // rows at once
  int64_t max_bytes = 0;    // of the data; 0: all
  CompileOptions compile;
};

struct BertEvaluation {
  BertQuality quality;
  DocumentCounts documents;
  double unigram_entropy = 0.0;  // of the documents, nats
};

/// Rows and masks are made as in the run: its tokenizer, row length, packing, share of labels,
/// seed.
BertEvaluation evaluate_bert(const LoadedCheckpoint& loaded, const ByteData& data,
                             const BertEvalOptions& options);

}  // namespace espalier::train
