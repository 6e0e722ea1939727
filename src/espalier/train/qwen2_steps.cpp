// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/qwen2_steps.h"

#include <algorithm>
#include <numbers>

#include "espalier/train/text_steps.h"

namespace espalier::train {

using models::Qwen2ForCausalLm;

models::Qwen2Loss qwen2_batch_loss(const Qwen2ForCausalLm& model, int64_t rows, int64_t seq_len,
                                   const Trace& trace) {
  const auto input = [&](const char* name) {
    return trace.batch(name, DType::i32, {rows, seq_len});
  };
  const Tensor hidden = qwen2_encode(model,
                                     {.input_ids = input("input_ids"),
                                      .position_ids = input("positions"),
                                      .attention_mask = {},
                                      .segments = input("segments")},
                                     trace.context);
  return qwen2_loss(model, hidden, input("labels"));
}

Step qwen2_train_step(const Qwen2Options& options, const models::Qwen2Config& config) {
  return make_train_step(with_frozen(Qwen2ForCausalLm(config), options.freeze),
                         [&](const Qwen2ForCausalLm& model, const Trace& trace) {
                           const auto [sum, count] =
                               qwen2_batch_loss(model, options.part_size(), options.seq_len, trace);
                           return Loss::mean_over(sum, count);
                         },
                         text_optimizer(options),
                         {.compile = options.compile, .accumulate = options.accumulate});
}

Step qwen2_eval_step(const models::Qwen2Config& config, int64_t rows, int64_t seq_len,
                     const CompileOptions& compile) {
  return make_forward(Qwen2ForCausalLm(config),
                      [&](const Qwen2ForCausalLm& model, const Trace& trace) -> NamedTensors {
                        const auto [sum, count] = qwen2_batch_loss(model, rows, seq_len, trace);
                        return {{"loss_sum", sum}, {"count", count}};
                      },
                      {.compile = compile});
}

std::map<std::string, const void*> inputs_of(const CausalBatch& batch) {
  return {{"input_ids", batch.input_ids.data()},
          {"segments", batch.segments.data()},
          {"positions", batch.positions.data()},
          {"labels", batch.labels.data()}};
}

Qwen2Evaluator::Qwen2Evaluator(const models::Qwen2Config& config, int64_t rows_at_once,
                               int64_t seq_len, CompileOptions compile)
    : rows_(rows_at_once),
      seq_len_(seq_len),
      steps_([config, compile = std::move(compile)](const ShapedSteps::BatchShape& shape) {
        return qwen2_eval_step(config, shape[0], shape[1], compile);
      }) {}

CausalQuality Qwen2Evaluator::measure(const CausalData& data, int64_t max_rows) {
  const int64_t all = data.rows().size();
  const int64_t rows = max_rows > 0 ? std::min(max_rows, all) : all;
  Step& step = compile();
  CausalQuality quality;
  double nats = 0.0;
  int64_t bytes = 0;
  for (int64_t first = 0; first < rows; first += rows_) {
    data.fill(first, std::min(rows_, rows - first), rows_, batch_);
    for (const auto& [name, values] : inputs_of(batch_)) step.set_batch(name, values);
    step.run();
    nats += step.scalar("loss_sum");
    quality.tokens += batch_.label_count;
    bytes += batch_.label_bytes;
  }
  quality.loss = nats / static_cast<double>(quality.tokens);
  quality.bits_per_byte = nats / static_cast<double>(bytes) / std::numbers::ln2;
  return quality;
}

}  // namespace espalier::train
