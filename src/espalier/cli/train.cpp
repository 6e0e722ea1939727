// SPDX-License-Identifier: Apache-2.0
// espalier train byte-lm
#include <memory>

#include "espalier/cli/byte_lm_flags.h"
#include "espalier/cli/command.h"
#include "espalier/cli/screen.h"
#include "espalier/train/byte_lm_job.h"

namespace espalier::cli {
namespace {

struct State {
  train::ByteLmOptions options;
  ModelFlags model;
};

int run(Program& program, State& state) {
  train::ByteLmOptions& o = state.options;
  if (o.resume && !o.save_dir.empty()) {
    // The run's own choices first, then what this command line says.
    if (train::take_over_run(o)) {
      state.model.from(o);
      parse(program);
    }
  }
  state.model.take(o);
  Screen screen;
  train::train_byte_lm(o, screen.events());
  return 0;
}

void add_train_byte_lm(Program& program, Command& train) {
  Command* app = train.add_subcommand("byte-lm", "train the byte-level language model");
  const auto state = std::make_shared<State>();
  train::ByteLmOptions& o = state->options;
  app->add_option("--data", o.data, "a file of bytes, or builtin: this project's own text");
  state->model.add_to(*app, o);
  add_run_flags(*app, o);
  app->footer(
      "Examples:\n"
      "  espalier train byte-lm --data enwik9 --dtype bfloat16 --save-dir run "
      "--save-every 500\n"
      "  espalier train byte-lm --resume --save-dir run\n"
      "  espalier train byte-lm --num-layer 2 --d-model 128 --heads 4 --ffn 512 "
      "--batch-size 16 --steps 200");
  app->callback(
      [&program, state] { program.action = [&program, state] { return run(program, *state); }; });
}

}  // namespace

void add_train(Program& program) {
  Command* train = program.app.add_subcommand("train", "train a model");
  add_train_byte_lm(program, *train);
  add_train_bert(program, *train);
  add_train_qwen2(program, *train);
  train->footer(
      "Examples:\n"
      "  espalier train byte-lm --data enwik9 --save-dir run\n"
      "  espalier train bert");
}

}  // namespace espalier::cli
