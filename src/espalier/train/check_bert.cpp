// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <memory>

#include "espalier/models/bert_forward.h"
#include "espalier/train/check_tokens.h"

namespace espalier::train {
namespace {

using models::BertForMaskedLm;

struct BertFolder {
  models::BertConfig config;
  int64_t steps;
  Optimizer optimizer;
  TokenBatch tokens;
  std::vector<int64_t> rows, labels;  // of the labelled positions
};

models::BertInputs inputs_of(const BertFolder& c, const Trace& trace) {
  const Shape shape = c.tokens.shape();
  return {.input_ids = trace.batch("input_ids", DType::i64, shape),
          .attention_mask = trace.batch("attention_mask", DType::boolean, shape)};
}

CheckResults compute(const BertFolder& c, const CheckParameters& parameters,
                     const CompileOptions& compile) {
  return check_runs(
      make_forward(BertForMaskedLm(c.config),
                   [&](const BertForMaskedLm& model, const Trace& trace) -> NamedTensors {
                     const Tensor hidden = bert_encode(model, inputs_of(c, trace), trace.context);
                     return {{"logits", bert_logits(model, hidden)}};
                   },
                   {.compile = compile, .hooks = {"*"}}),
      make_train_step(
          BertForMaskedLm(c.config),
          [&](const BertForMaskedLm& model, const Trace& trace) -> Loss {
            const Shape count{static_cast<int64_t>(c.rows.size())};
            const models::BertLabels labels{.rows = trace.batch("label_rows", DType::i64, count),
                                            .labels = trace.batch("labels", DType::i64, count)};
            const Tensor hidden = bert_encode(model, inputs_of(c, trace), trace.context);
            const models::BertLoss loss = bert_loss(model, hidden, labels);
            return loss.sum / loss.count;
          },
          c.optimizer, {.compile = compile, .grad_norm = true, .gradients = true}),
      parameters, c.steps, [&](Step& step, CheckRun run, int64_t) {
        set_tokens(step, c.tokens);
        if (run == CheckRun::forward) return;
        step.set_batch("label_rows", c.rows.data());
        step.set_batch("labels", c.labels.data());
      });
}

}  // namespace

CheckCase read_bert_case(const std::filesystem::path& folder, const CheckSettings& settings,
                         const io::SafetensorsFile& expected, const CheckOptions&) {
  auto c = std::make_shared<BertFolder>();
  c->config = models::read_bert_config(folder / "config.json");
  c->steps = settings.get<int64_t>("steps");
  const AdamOptions adam = check_adam(settings);
  c->optimizer = check_adamw(settings, adam);
  CheckParameters parameters = check_parameters(folder, nn::leaves_of(BertForMaskedLm(c->config)));

  c->tokens = read_token_batch(expected, c->config.vocab_size);
  for (size_t i = 0; i < c->tokens.labels.size(); ++i) {
    if (c->tokens.labels[i] < 0) continue;
    c->rows.push_back(static_cast<int64_t>(i));
    c->labels.push_back(c->tokens.labels[i]);
  }
  ESPALIER_CHECK(!c->rows.empty(), ErrorKind::data, "check", "{}:labels: no position has a label",
                 expected.label());
  const models::BertConfig& config = c->config;
  const int64_t steps = c->steps;
  return {
      .model = "bert",
      .parameters = std::move(parameters),
      .compute = [c](const CheckParameters& values,
                     const CompileOptions& compile) { return compute(*c, values, compile); },
      .inputs = kTokenInputs,
      .longest_sum = static_cast<double>(std::max({config.hidden_size, config.intermediate_size,
                                                   config.vocab_size, c->tokens.shape().numel()})),
      .adam = adam,
      .steps = steps,
      .key_bias = [](const std::string& what, size_t elements) -> std::pair<size_t, size_t> {
        const bool key = what.starts_with("after.") && what.ends_with("self.key.bias");
        return {0, key ? elements : 0};
      }};
}

}  // namespace espalier::train
