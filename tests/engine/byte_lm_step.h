// SPDX-License-Identifier: Apache-2.0
// A small byte LM's training step, and runs of it.
#pragma once

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "espalier/base/rng.h"
#include "espalier/models/byte_lm.h"
#include "espalier/train/step.h"

namespace espalier::testing {

struct StepCase {
  models::ByteLmConfig config{.width = 64, .heads = 2, .ffn = 128, .layers = 2, .seq_len = 64};
  int64_t batch = 4;
  models::ByteLmVariant variant = models::ByteLmVariant::library;
  train::Optimizer optimizer = train::adam({.learning_rate = 1e-3});
  train::StepOptions options = [] {
    train::StepOptions o;
    o.compile.threads = 2;
    return o;
  }();
};

inline train::Step make_step(const StepCase& c) {
  models::ByteLm model(c.config);
  return train::make_train_step(
      model,
      [&](const models::ByteLm& m, const train::Trace& trace) -> train::Loss {
        const Tensor bytes = trace.batch("bytes", DType::u8, {c.batch, c.config.seq_len});
        const Tensor logits = models::byte_lm_logits(m, c.variant, bytes, trace.context);
        return models::byte_lm_loss(c.variant, logits, bytes);
      },
      c.optimizer, c.options);
}

/// Text-like bytes: a fixed stream, so that there is something to learn.
inline std::vector<uint8_t> sample_bytes(int64_t count) {
  const std::string text = "an espalier is a tree trained along a plan; ";
  std::vector<uint8_t> bytes;
  for (int64_t i = 0; i < count; ++i) {
    const auto at = static_cast<size_t>(i + (rng_bits({1, 2}, static_cast<uint64_t>(i)) % 3));
    bytes.push_back(static_cast<uint8_t>(text[at % text.size()]));
  }
  return bytes;
}

struct StepRun {
  std::vector<double> losses;
  std::map<std::string, HostTensor> parameters;
  CompileStats stats;
};

inline StepRun run_steps(const StepCase& c, int steps) {
  train::Step step = make_step(c);
  step.compile();
  step.initialize(7);
  const int64_t per_batch = c.batch * c.config.seq_len;
  const std::vector<uint8_t> bytes = sample_bytes(per_batch * steps);
  StepRun run;
  for (int s = 0; s < steps; ++s) {
    step.set_batch("bytes", bytes.data() + s * per_batch);
    step.run();
    run.losses.push_back(step.loss());
  }
  for (const auto& [path, value] : step.parameters()) run.parameters[path] = value.clone();
  run.stats = step.executable().stats();
  return run;
}

/// Parameters equal to the last bit.
inline bool same_parameters(const StepRun& a, const StepRun& b) {
  for (const auto& [path, value] : a.parameters) {
    const HostTensor& other = b.parameters.at(path);
    if (std::memcmp(value.data(), other.data(), static_cast<size_t>(value.bytes())) != 0) {
      return false;
    }
  }
  return a.losses == b.losses;
}

}  // namespace espalier::testing
