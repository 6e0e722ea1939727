// SPDX-License-Identifier: Apache-2.0
// state.json of a checkpoint and run.json of a run: text to values and back. Internal to train.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "espalier/train/checkpoint.h"

namespace espalier::train {

struct CheckpointFile {
  int64_t bytes = 0;
  uint32_t crc32c = 0;
};

struct CheckpointState {
  int64_t step = 0;
  uint64_t seed = 0;
  CheckpointSection config, options, data;
  std::string library;
  CheckpointFile model, state;
};

std::string print_checkpoint_state(const CheckpointState& state);

/// Throws `data`, naming `label`, for anything but what print_checkpoint_state wrote; `unsupported`
/// for the format of a later version.
CheckpointState parse_checkpoint_state(std::string_view text, const std::string& label);

/// How a run was begun. Not sealed by a checksum: people may read and write it.
struct RunFile {
  std::string version;  // of the program
  std::string job;      // "byte-lm", "bert"
  uint64_t seed = 0;
  CheckpointSection config, options, data;
};

std::string print_run_file(const RunFile& run);
/// Throws `data`, naming `label`, for anything that print_run_file does not write.
RunFile parse_run_file(std::string_view text, const std::string& label);

}  // namespace espalier::train
