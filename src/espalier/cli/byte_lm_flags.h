// SPDX-License-Identifier: Apache-2.0
// Flags that several subcommands share.
#pragma once

#include <string>

#include "espalier/cli/flags.h"
#include "espalier/train/byte_lm_options.h"

namespace espalier::cli {

/// How a step is compiled: values as they are written; `take` turns them into options.
struct CompileFlags {
  std::string dtype = "float32";
  std::string remat;

  void add_to(Command& app, CompileOptions& options);
  void from(const CompileOptions& options);
  void take(CompileOptions& options) const;
};

/// The byte LM and how it is compiled.
struct ModelFlags {
  std::string model = "library";
  std::string init = "torch";
  CompileFlags compile;

  void add_to(Command& app, train::ByteLmOptions& options);
  void from(const train::ByteLmOptions& options);
  void take(train::ByteLmOptions& options) const;
};

/// Choices of every run: steps, batches, optimizer, checkpoints, logs, machine.
void add_run_flags(Command& app, train::RunOptions& options);

/// --backend, --threads, --cache-dir.
void add_machine_flags(Command& app, CompileOptions& options);

}  // namespace espalier::cli
