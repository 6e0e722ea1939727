// SPDX-License-Identifier: Apache-2.0
// Every choice of a byte-LM run, and what of it goes into checkpoints.
#pragma once

#include <cstdint>
#include <string>

#include "espalier/models/byte_lm.h"
#include "espalier/train/run_options.h"

namespace espalier::train {

struct ByteLmOptions : RunOptions {
  models::ByteLmConfig model;
  models::ByteLmVariant variant = models::ByteLmVariant::library;
};

/// Adam, AdamW (on weights of matrix products only) or SGD, with the run's schedule.
Optimizer byte_lm_optimizer(const RunOptions& options);

/// Architecture as flags name it: what must agree to resume.
CheckpointSection config_section(const models::ByteLmConfig& model);
/// How the run was started: differences are reported, not refused.
CheckpointSection options_section(const ByteLmOptions& options);
/// Takes over model and options of the newest checkpoint in options.save_dir, so that resuming
/// needs no flags; what a flag says is set after this. False when there is none.
bool take_over_run(ByteLmOptions& options);
/// The model of a checkpoint; throws `data` naming a missing or unfit entry, `user` when it is of
/// another kind.
models::ByteLmConfig read_config(const LoadedCheckpoint& loaded);

/// "40.47 GFLOP per sequence = ...": the count behind shares of the peak, in words.
std::string flops_text(const models::ByteLmConfig& model);

}  // namespace espalier::train
