// SPDX-License-Identifier: Apache-2.0
// espalier dump byte-lm
#include "espalier/train/dump.h"

#include <cstdio>
#include <memory>

#include "espalier/cli/byte_lm_flags.h"
#include "espalier/cli/command.h"

namespace espalier::cli {
namespace {

struct State {
  train::ByteLmOptions options;
  ModelFlags model;
  std::string stage = "traced";
  bool list = false;
};

int run(State& state) {
  if (state.list) {
    for (const std::string& stage : train::dump_stages()) fmt::print("{}\n", stage);
    return 0;
  }
  state.model.take(state.options);
  fmt::print("{}\n", train::dump_byte_lm(state.options, state.stage));
  return 0;
}

}  // namespace

void add_dump(Program& program) {
  CLI::App* dump = program.app.add_subcommand("dump", "print a stage of compilation as text");
  CLI::App* app = dump->add_subcommand("byte-lm", "of the byte-level language model");
  const auto state = std::make_shared<State>();
  app->add_option("--stage", state->stage,
                  "traced, forward-PASS, grad, PASS, fused or program; --list shows all");
  app->add_flag("--list", state->list, "names of the stages, in order");
  app->add_option("--batch-size,--batch", state->options.batch_size, "sequences of a step");
  state->model.add_to(*app, state->options);
  app->footer(
      "All stages but the last parse back: a failing graph becomes a test by paste.\n"
      "Example:\n  espalier dump byte-lm --num-layer 1 --stage fused");
  app->callback([&program, state] { program.action = [state] { return run(*state); }; });
}

}  // namespace espalier::cli
