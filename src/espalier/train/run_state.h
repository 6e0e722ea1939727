// SPDX-License-Identifier: Apache-2.0
// Checkpoints of runs, and how what they hold gets into steps.
#pragma once

#include <filesystem>
#include <optional>

#include "espalier/train/checkpoint.h"
#include "espalier/train/step.h"

namespace espalier::train {

/// Everything a step keeps, from a checkpoint. Throws `data` when a tensor is missing or has
/// another shape or type, `user` when the checkpoint belongs to another optimizer or precision.
void restore(Step& step, const LoadedCheckpoint& loaded);
/// The parameters only.
void restore_parameters(Step& step, const LoadedCheckpoint& loaded);

/// The newest valid checkpoint of a run's folder, or the checkpoint that `path` itself is. Throws
/// `user` when there is none.
LoadedCheckpoint open_run(const std::filesystem::path& path);
/// The newest valid checkpoint in a run's folder; nothing when there is no folder or none in it.
std::optional<LoadedCheckpoint> find_run(const std::filesystem::path& dir);

}  // namespace espalier::train
