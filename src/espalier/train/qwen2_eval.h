// SPDX-License-Identifier: Apache-2.0
// A trained Qwen2 on documents it may not have seen.
#pragma once

#include "espalier/train/qwen2_steps.h"
#include "espalier/train/run_state.h"
#include "espalier/train/run_text.h"

namespace espalier::train {

struct Qwen2Evaluation {
  CausalQuality quality;
  DocumentCounts documents;
  double unigram_entropy = 0.0;  // of the documents, nats
};

/// Rows are made as in the run: its tokenizer, row length, packing, seed.
Qwen2Evaluation evaluate_qwen2(const LoadedCheckpoint& loaded, const ByteData& data,
                               const TextEvalOptions& options);

}  // namespace espalier::train
