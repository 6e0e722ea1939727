// SPDX-License-Identifier: Apache-2.0
// Qwen2's compiled steps for causal language modelling.
#pragma once

#include <cstdint>

#include "espalier/models/qwen2_forward.h"
#include "espalier/train/causal_data.h"
#include "espalier/train/qwen2_options.h"
#include "espalier/train/shaped_steps.h"

namespace espalier::train {

/// The loss of one part of a batch. Batch inputs: input_ids, segments, positions, labels, i32
/// [rows, seq_len].
models::Qwen2Loss qwen2_batch_loss(const models::Qwen2ForCausalLm& model, int64_t rows,
                                   int64_t seq_len, const Trace& trace);

/// The loss is the mean over all labels of the batch, options.accumulate parts of part_size rows.
Step qwen2_train_step(const Qwen2Options& options, const models::Qwen2Config& config);
/// Outputs loss_sum and count.
Step qwen2_eval_step(const models::Qwen2Config& config, int64_t rows, int64_t seq_len,
                     const CompileOptions& compile);

/// The batch by the names of a step's inputs.
std::map<std::string, const void*> inputs_of(const CausalBatch& batch);

struct CausalQuality {
  double loss = 0.0;           // nats per token
  double bits_per_byte = 0.0;  // of text: ends of documents cost bits and are no bytes
  int64_t tokens = 0;
};

/// Measures on rows of documents.
class Qwen2Evaluator {
 public:
  Qwen2Evaluator(const models::Qwen2Config& config, int64_t rows_at_once, int64_t seq_len,
                 CompileOptions compile);
  /// Works on the parameters of that step from now on, or
  void use_parameters_of(Step& step) { steps_.use_state_of(step); }
  /// on its own: compiles, for parameters to be put in.
  Step& compile() { return steps_.at({rows_, seq_len_}); }
  /// The first `max_rows` rows of an epoch of `data`; 0: all.
  CausalQuality measure(const CausalData& data, int64_t max_rows = 0);

 private:
  int64_t rows_, seq_len_;
  CausalBatch batch_;
  ShapedSteps steps_;
};

}  // namespace espalier::train
