// SPDX-License-Identifier: Apache-2.0
// Flags of subcommands that read a trained run.
#pragma once

#include <string>

#include "espalier/backend/executable.h"
#include "espalier/cli/flags.h"
#include "espalier/train/byte_lm_steps.h"

namespace espalier::cli {

struct RunFlags {
  std::string run;
  std::string dtype = "float32";
  CompileOptions compile;

  void add_to(Command& app);
  /// The run's newest valid checkpoint; warnings go to standard error.
  train::LoadedCheckpoint open();
};

}  // namespace espalier::cli
