// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/check_tokens.h"

namespace espalier::train {

TokenBatch read_token_batch(const io::SafetensorsFile& expected, int64_t vocab_size) {
  const Shape shape = expected.at("input_ids").shape;
  ESPALIER_CHECK(shape.rank() == 2, ErrorKind::data, "check", "{}:input_ids {} is not [batch,seq]",
                 expected.label(), shape.str());
  const HostTensor ids = expected.tensor("input_ids", DType::i64, shape);
  const HostTensor mask = expected.tensor("attention_mask", DType::i64, shape);
  const HostTensor labels = expected.tensor("labels", DType::i64, shape);
  TokenBatch tokens{.batch = shape[0], .seq = shape[1], .ids = {}, .mask = {}, .labels = {}};
  for (size_t i = 0; i < static_cast<size_t>(shape.numel()); ++i) {
    const int64_t id = ids.as<int64_t>()[i];
    ESPALIER_CHECK(id >= 0 && id < vocab_size, ErrorKind::data, "check",
                   "{}:input_ids: {} is outside the vocabulary of {}", expected.label(), id,
                   vocab_size);
    tokens.ids.push_back(id);
    tokens.mask.push_back(mask.as<int64_t>()[i] != 0);
    tokens.labels.push_back(labels.as<int64_t>()[i]);
  }
  return tokens;
}

void set_tokens(Step& step, const TokenBatch& tokens) {
  step.set_batch("input_ids", tokens.ids.data());
  step.set_batch("attention_mask", tokens.mask.data());
}

Optimizer check_adamw(const CheckSettings& settings, const AdamOptions& adam) {
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

}  // namespace espalier::train
