// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/bert_steps.h"

#include <algorithm>

#include "espalier/base/error.h"
#include "espalier/train/text_steps.h"

namespace espalier::train {

using models::BertForMaskedLm;

BertLabelled bert_labelled(const BertForMaskedLm& model, const BertShape& shape,
                           const Trace& trace) {
  const Shape places{shape.rows, shape.seq_len}, room{shape.label_room};
  const models::BertInputs inputs{.input_ids = trace.batch("input_ids", DType::i32, places),
                                  .position_ids = trace.batch("positions", DType::i32, places),
                                  .segments = trace.batch("segments", DType::i32, places)};
  const models::BertLabels labels{.rows = trace.batch("label_rows", DType::i32, room),
                                  .labels = trace.batch("labels", DType::i32, room)};
  const Tensor hidden = bert_encode(model, inputs, trace.context);
  return {bert_label_logits(model, hidden, labels), labels.labels};
}

models::BertLoss bert_batch_loss(const BertForMaskedLm& model, const BertShape& shape,
                                 const Trace& trace) {
  const BertLabelled labelled = bert_labelled(model, shape, trace);
  return models::bert_loss(labelled.logits, labelled.labels);
}

Step bert_train_step(const BertOptions& options, const models::BertConfig& config,
                     const BertShape& shape) {
  return make_train_step(with_frozen(BertForMaskedLm(config), options.freeze),
                         [&](const BertForMaskedLm& model, const Trace& trace) {
                           const models::BertLoss loss = bert_batch_loss(model, shape, trace);
                           return Loss::mean_over(loss.sum, loss.count);
                         },
                         text_optimizer(options),
                         {.compile = options.compile, .accumulate = options.accumulate});
}

Step bert_eval_step(const models::BertConfig& config, const BertShape& shape,
                    const CompileOptions& compile) {
  return make_forward(
      BertForMaskedLm(config),
      [&](const BertForMaskedLm& model, const Trace& trace) -> NamedTensors {
        const BertLabelled labelled = bert_labelled(model, shape, trace);
        const models::BertLoss loss = models::bert_loss(labelled.logits, labelled.labels);
        return {{"loss_sum", loss.sum},
                {"count", loss.count},
                {"correct", models::bert_correct(labelled.logits, labelled.labels)}};
      },
      {.compile = compile});
}

BertEvaluator::BertEvaluator(const models::BertConfig& config, int64_t rows_at_once,
                             CompileOptions compile)
    : rows_(rows_at_once),
      steps_([config, compile = std::move(compile)](const ShapedSteps::BatchShape& shape) {
        return bert_eval_step(config, {shape[0], shape[1], shape[2]}, compile);
      }) {}

Step& BertEvaluator::compile(const MlmData& data, int64_t seq_len) {
  return steps_.at({rows_, seq_len, data.usual_capacity(rows_)});
}

BertQuality BertEvaluator::measure(const MlmData& data, int64_t max_rows) {
  const int64_t all = data.rows_per_epoch();
  const int64_t rows = max_rows > 0 ? std::min(max_rows, all) : all;
  double loss = 0.0, count = 0.0, correct = 0.0;
  for (int64_t first = 0; first < rows; first += rows_) {
    fill_bert_batch(data, first, std::min(rows_, rows - first), 1, rows_, batch_);
    const BertShape& shape = batch_.shape;
    Step& step = steps_.at({shape.rows, shape.seq_len, shape.label_room});
    set_bert_batch(step, batch_);
    step.run();
    loss += step.scalar("loss_sum");
    count += step.scalar("count");
    correct += step.scalar("correct");
  }
  ESPALIER_CHECK(count > 0.0, ErrorKind::data, "eval", "none of {} rows has a label", rows);
  return {.loss = loss / count, .accuracy = correct / count, .labels = static_cast<int64_t>(count)};
}

}  // namespace espalier::train
