// SPDX-License-Identifier: Apache-2.0
// The byte LM's compiled steps.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "espalier/models/byte_lm.h"
#include "espalier/train/byte_lm_options.h"
#include "espalier/train/run_state.h"
#include "espalier/train/step.h"

namespace espalier::train {

/// Batch input "bytes", u8 [part_size, seq_len], options.accumulate of them.
Step byte_lm_train_step(const ByteLmOptions& options);

/// Output "losses", f32 [batch, seq_len]: nats of every position; batch input "bytes".
Step byte_lm_loss_step(const models::ByteLmConfig& model, models::ByteLmVariant variant,
                       int64_t batch, const CompileOptions& compile);

/// Output "logits", f32 [1, seq_len, vocab]; batch input "bytes", u8 [1, seq_len].
Step byte_lm_logits_step(const models::ByteLmConfig& model, models::ByteLmVariant variant,
                         const CompileOptions& compile);

/// The forward graph with loss as the model's code writes it, before any pass.
ir::Graph byte_lm_traced(const ByteLmOptions& options);

/// Mean loss over windows of bytes.
class ByteLmEvaluator {
 public:
  ByteLmEvaluator(const models::ByteLmConfig& model, models::ByteLmVariant variant, int64_t batch,
                  const CompileOptions& compile);
  Step& step() { return step_; }
  /// Cuts `bytes` into windows of seq_len (the last may be shorter) and returns bits per byte.
  /// `max_windows` > 0 stops after that many. `progress` gets the bytes done so far.
  double bits_per_byte(std::span<const uint8_t> bytes, int64_t max_windows = 0,
                       const std::function<void(int64_t)>& progress = {});

 private:
  int64_t batch_, seq_len_;
  Step step_;
  std::vector<uint8_t> rows_;
};

}  // namespace espalier::train
