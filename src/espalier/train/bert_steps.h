// SPDX-License-Identifier: Apache-2.0
// BERT's compiled steps for masked-language modelling.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "espalier/models/bert_forward.h"
#include "espalier/train/bert_batch.h"
#include "espalier/train/bert_options.h"
#include "espalier/train/shaped_steps.h"

namespace espalier::train {

struct BertLabelled {
  Tensor logits;  // [label_room, vocab]
  Tensor labels;  // [label_room]
};
/// The head's results for one part. Batch inputs: input_ids, segments, positions, i32 [rows,
/// seq_len]; label_rows, labels, i32 [label_room].
BertLabelled bert_labelled(const models::BertForMaskedLm& model, const BertShape& shape,
                           const Trace& trace);
/// The loss of one part, with the same inputs.
models::BertLoss bert_batch_loss(const models::BertForMaskedLm& model, const BertShape& shape,
                                 const Trace& trace);

/// The loss is the mean over all labels of the batch.
Step bert_train_step(const BertOptions& options, const models::BertConfig& config,
                     const BertShape& shape);
/// Outputs loss_sum, count, correct: see models::BertLoss and bert_correct.
Step bert_eval_step(const models::BertConfig& config, const BertShape& shape,
                    const CompileOptions& compile);

struct BertQuality {
  double loss = 0.0;      // nats per label
  double accuracy = 0.0;  // share of labels whose token has the largest logit
  int64_t labels = 0;
};

/// Measures on rows of documents, masked the same way each time.
class BertEvaluator {
 public:
  BertEvaluator(const models::BertConfig& config, int64_t rows_at_once, CompileOptions compile);
  /// Works on the parameters of that step from now on, or
  void use_parameters_of(Step& step) { steps_.use_state_of(step); }
  /// on its own: compiles for the usual batch of `data`, for parameters to be put in.
  Step& compile(const MlmData& data, int64_t seq_len);
  /// The first `max_rows` rows of an epoch of `data`; 0: all. Throws `data` when nothing is
  /// labelled.
  BertQuality measure(const MlmData& data, int64_t max_rows = 0);

 private:
  int64_t rows_;
  BertBatch batch_;
  ShapedSteps steps_;
};

}  // namespace espalier::train
