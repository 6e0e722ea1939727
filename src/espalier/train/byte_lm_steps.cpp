// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/byte_lm_steps.h"

#include <algorithm>
#include <cstring>
#include <numbers>

#include "espalier/base/error.h"

namespace espalier::train {
namespace {

using models::ByteLm;

auto loss_of(const ByteLmOptions& options) {
  return [&options](const ByteLm& model, const Trace& trace) -> Loss {
    const Tensor bytes =
        trace.batch("bytes", DType::u8, {options.part_size(), options.model.seq_len});
    const Tensor logits = byte_lm_logits(model, options.variant, bytes, trace.context);
    return byte_lm_loss(options.variant, logits, bytes);
  };
}

}  // namespace

Step byte_lm_train_step(const ByteLmOptions& options) {
  return make_train_step(ByteLm(options.model), loss_of(options), byte_lm_optimizer(options),
                         {.compile = options.compile, .accumulate = options.accumulate});
}

Step byte_lm_loss_step(const models::ByteLmConfig& model, models::ByteLmVariant variant,
                       int64_t batch, const CompileOptions& compile) {
  const auto forward = [&](const ByteLm& m, const Trace& trace) -> NamedTensors {
    const Tensor bytes = trace.batch("bytes", DType::u8, {batch, model.seq_len});
    const Tensor logits = byte_lm_logits(m, variant, bytes, trace.context);
    return {{"losses", softmax_cross_entropy(logits, bytes)}};
  };
  return make_forward(ByteLm(model), forward, {.compile = compile});
}

Step byte_lm_logits_step(const models::ByteLmConfig& model, models::ByteLmVariant variant,
                         const CompileOptions& compile) {
  const auto forward = [&](const ByteLm& m, const Trace& trace) -> NamedTensors {
    const Tensor bytes = trace.batch("bytes", DType::u8, {1, model.seq_len});
    return {{"logits", byte_lm_logits(m, variant, bytes, trace.context)}};
  };
  return make_forward(ByteLm(model), forward, {.compile = compile});
}

ir::Graph byte_lm_traced(const ByteLmOptions& options) {
  return trace_loss(ByteLm(options.model), loss_of(options));
}

ByteLmEvaluator::ByteLmEvaluator(const models::ByteLmConfig& model, models::ByteLmVariant variant,
                                 int64_t batch, const CompileOptions& compile)
    : batch_(batch),
      seq_len_(model.seq_len),
      step_(byte_lm_loss_step(model, variant, batch, compile)),
      rows_(static_cast<size_t>(batch * model.seq_len)) {
  step_.compile();
}

double ByteLmEvaluator::bits_per_byte(std::span<const uint8_t> bytes, int64_t max_windows,
                                      const std::function<void(int64_t)>& progress) {
  auto size = static_cast<int64_t>(bytes.size());
  if (max_windows > 0) size = std::min(size, max_windows * seq_len_);
  ESPALIER_CHECK(size > 0, ErrorKind::data, "eval", "there are no bytes to evaluate");
  const int64_t at_once = batch_ * seq_len_;
  double nats = 0.0;
  for (int64_t start = 0; start < size; start += at_once) {
    const int64_t count = std::min(at_once, size - start);
    std::fill(rows_.begin(), rows_.end(), uint8_t{0});
    std::memcpy(rows_.data(), bytes.data() + start, static_cast<size_t>(count));
    step_.set_batch("bytes", rows_.data());
    step_.run();
    // Positions see earlier ones only, so what fills the last window up changes nothing before it.
    const HostTensor losses = step_.executable().output("losses");
    for (int64_t i = 0; i < count; ++i) nats += losses.get(i);
    if (progress) progress(start + count);
  }
  return nats / static_cast<double>(size) / std::numbers::ln2;
}

}  // namespace espalier::train
