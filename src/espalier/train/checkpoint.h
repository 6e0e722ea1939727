// SPDX-License-Identifier: Apache-2.0
// Checkpoints: folders `step-00000123/` that appear whole or not at all.
//
//   model.safetensors   parameters under their paths; loads in `transformers` as it is
//   state.safetensors   optimizer moments and other tensors of the run
//   further files of the model, such as config.json and vocab.txt
//   state.json          step, seed, settings, data position, version; sizes and CRC-32C of the two
//                       files, and of itself
//
// Random numbers are a function of (seed, step, op, element), so seed and step are the whole RNG
// state. A process killed at any moment leaves every earlier checkpoint as it was.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "espalier/tensor/host_tensor.h"

namespace espalier::train {

using CheckpointValue = std::variant<bool, int64_t, double, std::string>;
/// Named settings; doubles return bit for bit (NaN as some NaN).
using CheckpointSection = std::map<std::string, CheckpointValue>;

struct Checkpoint {
  int64_t step = 0;  // steps done
  uint64_t seed = 0;
  CheckpointSection config;   // architecture: must be equal to resume
  CheckpointSection options;  // optimizer, precision, batch: how the run was started
  CheckpointSection data;     // position in the data
  std::map<std::string, HostTensor> parameters;
  std::map<std::string, HostTensor> state;
  std::map<std::string, std::string> files = {};  // further text files by name; loading skips them
};

struct LoadedCheckpoint {
  Checkpoint checkpoint;  // tensors are views of the files' pages
  std::filesystem::path folder;
  std::string library;   // version that wrote it
  std::string warnings;  // one line per newer checkpoint that is damaged; empty when there is none
};

/// Writes and commits `dir/step-…`, replacing one of the same step; returns its folder. An error
/// removes what was written and names the checkpoint that is kept.
std::filesystem::path save_checkpoint(const std::filesystem::path& dir,
                                      const Checkpoint& checkpoint);

/// Reads one checkpoint and verifies sizes, checksums and formats; `data` error when damaged.
LoadedCheckpoint load_checkpoint(const std::filesystem::path& folder);

/// The configuration of a checkpoint, from state.json alone.
CheckpointSection checkpoint_config(const std::filesystem::path& folder);

/// The newest valid checkpoint of `dir`, with a warning for each damaged newer one; nothing when
/// there is no checkpoint at all; `data` error when all are damaged.
std::optional<LoadedCheckpoint> load_newest(const std::filesystem::path& dir);

/// Checkpoint folders in `dir`, newest first, not verified.
std::vector<std::filesystem::path> list_checkpoints(const std::filesystem::path& dir);

/// Removes all but the newest `count` (at least 1) complete checkpoints. Incomplete ones do not
/// count and stay, as evidence; checksums are not recomputed.
void keep_last(const std::filesystem::path& dir, int64_t count);

/// Renames checkpoints beyond `step` to `aside-step-…`: a run that resumes at `step` is about to
/// write other ones. Returns their new paths.
std::vector<std::filesystem::path> set_aside_after(const std::filesystem::path& dir, int64_t step);

/// "num_layer is 8 in the checkpoint and 4 now; …": settings that differ or are on one side only.
/// Empty when both are equal.
std::string differences(const CheckpointSection& saved, const CheckpointSection& now);

}  // namespace espalier::train
