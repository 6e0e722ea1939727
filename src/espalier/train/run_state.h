// SPDX-License-Identifier: Apache-2.0
// Checkpoints of runs, and how what they hold gets into steps.
#pragma once

#include <filesystem>
#include <optional>
#include <string_view>

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
/// run.json in the folder of a run: how it was begun.
constexpr std::string_view kRunFile = "run.json";
/// That file as a checkpoint of step 0 without tensors; nothing when there is none.
std::optional<LoadedCheckpoint> read_run_file(const std::filesystem::path& dir);

/// The newest valid checkpoint in a run's folder, or how the run was begun when it was stopped
/// before its first; nothing when there is no folder or no run in it.
std::optional<LoadedCheckpoint> find_run(const std::filesystem::path& dir);

}  // namespace espalier::train
