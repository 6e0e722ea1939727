// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <memory>

#include "espalier/models/byte_lm.h"
#include "espalier/train/check_case.h"

namespace espalier::train {
namespace {

struct ByteLmFolder {
  models::ByteLmConfig config;
  models::ByteLmVariant variant;
  int64_t batch, steps;
  AdamOptions adam;
  std::vector<uint8_t> bytes;  // [steps, batch, seq]
};

CheckResults compute(const ByteLmFolder& c, const CheckParameters& parameters,
                     const CompileOptions& compile) {
  const auto input = [&](const Trace& trace) {
    return models::byte_lm_input(trace.builder, c.batch, c.config.seq_len);
  };
  return check_runs(
      make_forward(
          models::ByteLm(c.config),
          [&](const models::ByteLm& model, const Trace& trace) -> NamedTensors {
            return {{"logits", byte_lm_logits(model, c.variant, input(trace), trace.context)}};
          },
          {.compile = compile, .hooks = {"*"}}),
      make_train_step(models::ByteLm(c.config),
                      [&](const models::ByteLm& model, const Trace& trace) {
                        const Tensor bytes = input(trace);
                        return byte_lm_loss(c.variant,
                                            byte_lm_logits(model, c.variant, bytes, trace.context),
                                            bytes);
                      },
                      adam(c.adam), {.compile = compile, .gradients = true}),
      parameters, c.steps, [&](Step& step, CheckRun, int64_t run) {
        step.set_batch("bytes", c.bytes.data() + run * c.batch * c.config.seq_len);
      });
}

}  // namespace

CheckCase read_byte_lm_case(const std::filesystem::path& folder, const CheckSettings& settings,
                            const io::SafetensorsFile& expected, const CheckOptions& options) {
  auto c = std::make_shared<ByteLmFolder>();
  c->config = {.vocab = settings.get<int64_t>("vocab"),
               .width = settings.get<int64_t>("hidden"),
               .heads = settings.get<int64_t>("heads"),
               .ffn = settings.get<int64_t>("ffn"),
               .layers = settings.get<int64_t>("layers"),
               .seq_len = settings.get<int64_t>("seq"),
               .dropout = 0.0,
               .norm_epsilon = settings.get<double>("norm_eps")};
  c->variant = models::parse_byte_lm_variant(options.variant);
  c->batch = settings.get<int64_t>("batch");
  c->steps = settings.get<int64_t>("steps");
  const auto optimizer = settings.get<std::string>("optimizer.name");
  ESPALIER_CHECK(optimizer == "adam", ErrorKind::unsupported, "check",
                 "expected.json: optimizer \"{}\" is not adam", optimizer);
  c->adam = check_adam(settings);
  CheckParameters parameters = check_parameters(folder, nn::leaves_of(models::ByteLm(c->config)));
  const HostTensor bytes =
      expected.tensor("input_bytes", DType::i64, Shape{c->steps, c->batch, c->config.seq_len});
  for (int64_t byte : bytes.as<int64_t>()) {
    ESPALIER_CHECK(byte >= 0 && byte < c->config.vocab, ErrorKind::data, "check",
                   "{}:input_bytes: {} is outside the vocabulary of {}", expected.label(), byte,
                   c->config.vocab);
    c->bytes.push_back(static_cast<uint8_t>(byte));
  }
  const models::ByteLmConfig& config = c->config;
  return {
      .model = "byte_lm",
      .parameters = std::move(parameters),
      .compute = [c](const CheckParameters& values,
                     const CompileOptions& compile) { return compute(*c, values, compile); },
      .inputs = {"input_bytes"},
      .longest_sum = static_cast<double>(
          std::max({config.width * 3, config.ffn, config.vocab, config.seq_len * c->batch})),
      .adam = c->adam,
      .steps = c->steps,
      // The second third of the joint projection's bias.
      .key_bias = [](const std::string& what, size_t elements) -> std::pair<size_t, size_t> {
        const bool joint = what.starts_with("after.") && what.ends_with("attention.qkv.bias");
        return joint ? std::pair{elements / 3, elements / 3 * 2} : std::pair{size_t{0}, size_t{0}};
      }};
}

}  // namespace espalier::train
