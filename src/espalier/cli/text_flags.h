// SPDX-License-Identifier: Apache-2.0
// Flags of the runs on tokenized text.
#pragma once

#include <string>

#include "espalier/cli/byte_lm_flags.h"
#include "espalier/cli/command.h"
#include "espalier/cli/flags.h"
#include "espalier/cli/screen.h"
#include "espalier/train/text_options.h"

namespace espalier::cli {

/// Values as they are written; `take` turns them into options.
struct TextFlags {
  CompileFlags compile;
  std::string attention = "fused";

  void add_to(Command& app, train::TextOptions& options);
  void from(const train::TextOptions& options);
  void take(train::TextOptions& options) const;
};

/// Runs `train(options, events)` as `command` says; when it goes on, the run's own choices come
/// first, then what this command line says.
template <typename Options, typename Train>
int run_text(Program& program, const Command& command, Options& options, TextFlags& flags,
             const Train& train) {
  if (options.resume && !options.save_dir.empty() && take_over_run(options)) {
    flags.from(options);
    parse(program);
  }
  flags.take(options);
  if (!command.given("--warmup")) train::shorten_warmup(options);
  Screen screen;
  train(options, screen.events());
  return 0;
}

}  // namespace espalier::cli
