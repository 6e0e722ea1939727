// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <memory>

#include "espalier/models/qwen2_forward.h"
#include "espalier/train/check_tokens.h"

namespace espalier::train {
namespace {

using models::Qwen2ForCausalLm;

struct Qwen2Folder {
  models::Qwen2Config config;
  int64_t steps;
  Optimizer optimizer;
  TokenBatch tokens;
};

models::Qwen2Inputs inputs_of(const Qwen2Folder& c, const Trace& trace) {
  const Shape shape = c.tokens.shape();
  return {.input_ids = trace.batch("input_ids", DType::i64, shape),
          .attention_mask = trace.batch("attention_mask", DType::boolean, shape)};
}

CheckResults compute(const Qwen2Folder& c, const CheckParameters& parameters,
                     const CompileOptions& compile) {
  return check_runs(
      make_forward(Qwen2ForCausalLm(c.config),
                   [&](const Qwen2ForCausalLm& model, const Trace& trace) -> NamedTensors {
                     const Tensor hidden = qwen2_encode(model, inputs_of(c, trace), trace.context);
                     return {{"logits", qwen2_logits(model, hidden)}};
                   },
                   {.compile = compile, .hooks = {"*"}}),
      make_train_step(Qwen2ForCausalLm(c.config),
                      [&](const Qwen2ForCausalLm& model, const Trace& trace) -> Loss {
                        const Tensor hidden =
                            qwen2_encode(model, inputs_of(c, trace), trace.context);
                        const models::Qwen2Loss loss = qwen2_loss(
                            model, hidden, trace.batch("labels", DType::i64, c.tokens.shape()));
                        return loss.sum / loss.count;
                      },
                      c.optimizer, {.compile = compile, .grad_norm = true, .gradients = true}),
      parameters, c.steps, [&](Step& step, CheckRun run, int64_t) {
        set_tokens(step, c.tokens);
        if (run == CheckRun::train) step.set_batch("labels", c.tokens.labels.data());
      });
}

}  // namespace

CheckCase read_qwen2_case(const std::filesystem::path& folder, const CheckSettings& settings,
                          const io::SafetensorsFile& expected, const CheckOptions&) {
  auto c = std::make_shared<Qwen2Folder>();
  c->config = models::read_qwen2_config(folder / "config.json");
  c->steps = settings.get<int64_t>("steps");
  const AdamOptions adam = check_adam(settings);
  c->optimizer = check_adamw(settings, adam);
  CheckParameters parameters = check_parameters(folder, nn::leaves_of(Qwen2ForCausalLm(c->config)));
  c->tokens = read_token_batch(expected, c->config.vocab_size);
  const models::Qwen2Config& config = c->config;
  const int64_t steps = c->steps;
  // `transformers` computes RMSNorm, softmax and the loss in f32 whatever the model's type is.
  const bool exact =
      settings.has("arithmetic") && settings.get<std::string>("arithmetic") == "float64";
  return {
      .model = "qwen2",
      .parameters = std::move(parameters),
      .compute = [c](const CheckParameters& values,
                     const CompileOptions& compile) { return compute(*c, values, compile); },
      .inputs = kTokenInputs,
      .longest_sum = static_cast<double>(std::max({config.hidden_size, config.intermediate_size,
                                                   config.vocab_size, c->tokens.shape().numel()})),
      .adam = adam,
      .steps = steps,
      .exact = exact,
      .rows = c->tokens.mask};
}

}  // namespace espalier::train
