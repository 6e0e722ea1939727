// SPDX-License-Identifier: Apache-2.0
// Flags that several subcommands of the byte LM share.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "espalier/train/byte_lm_options.h"

namespace espalier::cli {

/// Values as they are written; `take` turns them into options.
struct ModelFlags {
  std::string model = "library";
  std::string init = "torch";
  std::string dtype = "float32";
  std::string remat;

  void add_to(CLI::App& app, train::ByteLmOptions& options);
  void from(const train::ByteLmOptions& options);
  void take(train::ByteLmOptions& options) const;
};

/// --backend, --threads, --cache-dir.
void add_machine_flags(CLI::App& app, CompileOptions& options);

}  // namespace espalier::cli
