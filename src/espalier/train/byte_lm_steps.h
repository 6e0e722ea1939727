// SPDX-License-Identifier: Apache-2.0
// The byte LM's compiled steps, and how parameters get in and out of them.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "espalier/models/byte_lm.h"
#include "espalier/train/byte_lm_options.h"
#include "espalier/train/checkpoint.h"
#include "espalier/train/step.h"

namespace espalier::train {

/// Batch input "bytes", u8 [batch_size, seq_len].
Step byte_lm_train_step(const ByteLmOptions& options);

/// Output "losses", f32 [batch, seq_len]: nats of every position; batch input "bytes".
Step byte_lm_loss_step(const models::ByteLmConfig& model, models::ByteLmVariant variant,
                       int64_t batch, const CompileOptions& compile);

/// Output "logits", f32 [1, seq_len, vocab]; batch input "bytes", u8 [1, seq_len].
Step byte_lm_logits_step(const models::ByteLmConfig& model, models::ByteLmVariant variant,
                         const CompileOptions& compile);

/// The forward graph with loss as the model's code writes it, before any pass.
ir::Graph byte_lm_traced(const ByteLmOptions& options);

/// Everything a step keeps, from a checkpoint. Throws `data` when a tensor is missing or has
/// another shape or type, `user` when the checkpoint belongs to another optimizer or precision.
void restore(Step& step, const LoadedCheckpoint& loaded);
/// The parameters only.
void restore_parameters(Step& step, const LoadedCheckpoint& loaded);

/// The newest valid checkpoint of a run's folder, or the checkpoint that `path` itself is. Throws
/// `user` when there is none.
LoadedCheckpoint open_run(const std::filesystem::path& path);

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
