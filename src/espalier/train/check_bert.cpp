// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <memory>

#include "espalier/models/bert_forward.h"
#include "espalier/train/check_case.h"

namespace espalier::train {
namespace {

using models::BertForMaskedLm;

/// One batch with a padding mask, seen in every step.
struct BertFolder {
  models::BertConfig config;
  int64_t batch, seq, steps;
  Optimizer optimizer;
  std::vector<int64_t> ids;
  std::vector<uint8_t> mask;          // 1: visible
  std::vector<int64_t> rows, labels;  // of the labelled positions
};

models::BertInputs inputs_of(const BertFolder& c, const Trace& trace) {
  const Shape shape{c.batch, c.seq};
  return {.input_ids = trace.batch("input_ids", DType::i64, shape),
          .attention_mask = trace.batch("attention_mask", DType::boolean, shape)};
}

void set_inputs(Step& step, const BertFolder& c) {
  step.set_batch("input_ids", c.ids.data());
  step.set_batch("attention_mask", c.mask.data());
}

CheckResults compute(const BertFolder& c, const CheckParameters& parameters,
                     const CompileOptions& compile) {
  CheckResults results;
  Step forward =
      make_forward(BertForMaskedLm(c.config),
                   [&](const BertForMaskedLm& model, const Trace& trace) -> NamedTensors {
                     const Tensor hidden = bert_encode(model, inputs_of(c, trace), trace.context);
                     return {{"logits", bert_logits(model, hidden)}};
                   },
                   {.compile = compile, .hooks = {"*"}});
  check_load(forward, parameters);
  set_inputs(forward, c);
  forward.run();
  take_outputs(forward, results);

  Step train = make_train_step(
      BertForMaskedLm(c.config),
      [&](const BertForMaskedLm& model, const Trace& trace) -> Loss {
        const Shape count{static_cast<int64_t>(c.rows.size())};
        const models::BertLabels labels{.rows = trace.batch("label_rows", DType::i64, count),
                                        .labels = trace.batch("labels", DType::i64, count)};
        const Tensor hidden = bert_encode(model, inputs_of(c, trace), trace.context);
        const models::BertLoss loss = bert_loss(model, hidden, labels);
        return loss.sum / loss.count;
      },
      c.optimizer, {.compile = compile, .grad_norm = true, .gradients = true});
  check_load(train, parameters);
  set_inputs(train, c);
  train.set_batch("label_rows", c.rows.data());
  train.set_batch("labels", c.labels.data());
  std::vector<double>& losses = results["train.loss"];
  std::vector<double>& norms = results["train.grad_norm"];
  for (int64_t s = 0; s < c.steps; ++s) {
    train.run();
    losses.push_back(train.loss());
    norms.push_back(train.scalar("grad_norm"));
    if (s == 0) take_outputs(train, results);
  }
  take_parameters(train, results);
  return results;
}

Optimizer read_optimizer(const CheckSettings& settings, const AdamOptions& adam) {
  const auto name = settings.get<std::string>("optimizer.name");
  ESPALIER_CHECK(name == "adamw", ErrorKind::unsupported, "check",
                 "expected.json: optimizer \"{}\" is not adamw", name);
  return chain(
      clip_by_global_norm(settings.get<double>("optimizer.clip_global_norm")),
      adamw({.learning_rate = adam.learning_rate,
             .beta1 = adam.beta1,
             .beta2 = adam.beta2,
             .epsilon = adam.epsilon,
             .weight_decay = settings.get<double>("optimizer.weight_decay"),
             .mask = {.except = settings.get<std::vector<std::string>>("optimizer.no_decay")}}));
}

}  // namespace

CheckCase read_bert_case(const std::filesystem::path& folder, const CheckSettings& settings,
                         const io::SafetensorsFile& expected) {
  auto c = std::make_shared<BertFolder>();
  c->config = models::read_bert_config(folder / "config.json");
  c->steps = settings.get<int64_t>("steps");
  const AdamOptions adam = check_adam(settings);
  c->optimizer = read_optimizer(settings, adam);
  CheckParameters parameters = check_parameters(folder, BertForMaskedLm(c->config));

  const Shape shape = expected.at("input_ids").shape;
  ESPALIER_CHECK(shape.rank() == 2, ErrorKind::data, "check", "{}:input_ids {} is not [batch,seq]",
                 expected.label(), shape.str());
  c->batch = shape[0];
  c->seq = shape[1];
  const HostTensor ids = expected.tensor("input_ids", DType::i64, shape);
  const HostTensor mask = expected.tensor("attention_mask", DType::i64, shape);
  const HostTensor labels = expected.tensor("labels", DType::i64, shape);
  for (int64_t i = 0; i < shape.numel(); ++i) {
    const int64_t id = ids.as<int64_t>()[static_cast<size_t>(i)];
    ESPALIER_CHECK(id >= 0 && id < c->config.vocab_size, ErrorKind::data, "check",
                   "{}:input_ids: {} is outside the vocabulary of {}", expected.label(), id,
                   c->config.vocab_size);
    c->ids.push_back(id);
    c->mask.push_back(mask.as<int64_t>()[static_cast<size_t>(i)] != 0);
    const int64_t label = labels.as<int64_t>()[static_cast<size_t>(i)];
    if (label < 0) continue;
    c->rows.push_back(i);
    c->labels.push_back(label);
  }
  ESPALIER_CHECK(!c->rows.empty(), ErrorKind::data, "check", "{}:labels: no position has a label",
                 expected.label());
  const models::BertConfig& config = c->config;
  const int64_t steps = c->steps;
  return {.model = "bert",
          .parameters = std::move(parameters),
          .compute = [c](const CheckParameters& values,
                         const CompileOptions& compile) { return compute(*c, values, compile); },
          .inputs = {"input_ids", "attention_mask", "labels"},
          .longest_sum = static_cast<double>(std::max({config.hidden_size, config.intermediate_size,
                                                       config.vocab_size, c->batch * c->seq})),
          .adam = adam,
          .steps = steps,
          .key_bias = [](const std::string& what, size_t elements) -> std::pair<size_t, size_t> {
            const bool key = what.starts_with("after.") && what.ends_with("self.key.bias");
            return {0, key ? elements : 0};
          }};
}

}  // namespace espalier::train
