// SPDX-License-Identifier: Apache-2.0
// espalier train byte-lm
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <memory>

#include "espalier/base/error.h"
#include "espalier/cli/byte_lm_flags.h"
#include "espalier/cli/command.h"
#include "espalier/cli/signals.h"
#include "espalier/train/byte_lm_job.h"

namespace espalier::cli {
namespace {

/// On a terminal one line that is rewritten, elsewhere a line for every log_every steps.
class Screen {
 public:
  train::JobEvents events() {
    train::JobEvents events;
    events.say = [this](std::string_view text) { line(text); };
    events.on_log = [this](const train::Progress& p) {
      if (!terminal_) line(train::progress_line(p));
    };
    events.on_step = [this](const train::Progress& p) {
      if (terminal_) show(p);
    };
    events.stop_signal = stop_signal;
    return events;
  }
  ~Screen() {
    if (shown_) std::fputs("\n", stdout);
  }

 private:
  using Clock = std::chrono::steady_clock;

  void line(std::string_view text) {
    if (shown_) std::fputs("\r\x1b[K", stdout);
    shown_ = false;
    fmt::print("{}\n", text);
    std::fflush(stdout);
  }
  void show(const train::Progress& p) {
    const auto now = Clock::now();
    if (shown_ && now - last_ < std::chrono::milliseconds(100) && p.record.step < p.steps) return;
    last_ = now;
    shown_ = true;
    fmt::print("\r\x1b[K{}", train::progress_line(p));
    std::fflush(stdout);
  }

  bool terminal_ = isatty(STDOUT_FILENO) != 0;
  bool shown_ = false;
  Clock::time_point last_;
};

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

}  // namespace

void add_train(Program& program) {
  CLI::App* train = program.app.add_subcommand("train", "train a model");
  CLI::App* app = train->add_subcommand("byte-lm", "train the byte-level language model");
  const auto state = std::make_shared<State>();
  train::ByteLmOptions& o = state->options;
  app->add_option("--data", o.data, "a file of bytes, or builtin: this project's own text");
  app->add_option("--steps", o.steps, "steps of the whole run");
  app->add_option("--batch-size,--batch", o.batch_size, "sequences of a step");
  app->add_option("--seed", o.seed, "of initial values, data order and dropout");
  app->add_option("--holdout", o.holdout,
                  "part of the data kept for evaluation (0.05 with "
                  "--eval-every, else 0)");
  app->add_option("--max-seconds", o.max_seconds, "stop and save after this time; 0: no limit");
  state->model.add_to(*app, o);
  const char* optimizer = "Optimizer";
  app->add_option("--optimizer", o.optimizer.name, "adam, adamw or sgd")->group(optimizer);
  app->add_option("--lr", o.optimizer.lr, "learning rate")->group(optimizer);
  app->add_option("--schedule", o.optimizer.schedule, "constant, linear or cosine")
      ->group(optimizer);
  app->add_option("--warmup", o.optimizer.warmup, "steps of linear warmup")->group(optimizer);
  app->add_option("--decay-steps", o.optimizer.total, "end of the schedule; 0: --steps")
      ->group(optimizer);
  app->add_option("--momentum", o.optimizer.momentum, "of sgd")->group(optimizer);
  app->add_option("--weight-decay", o.optimizer.weight_decay, "of adamw")->group(optimizer);
  app->add_option("--clip", o.optimizer.clip, "largest norm of the gradients; 0: off")
      ->group(optimizer);
  const char* files = "Checkpoints and logs";
  app->add_option("--save-dir", o.save_dir, "folder of the run")->group(files);
  app->add_option("--save-every", o.save_every, "steps between checkpoints; 0: at the end")
      ->group(files);
  app->add_option("--keep", o.keep, "checkpoints that are kept")->group(files);
  app->add_flag("--resume", o.resume, "continue the run in --save-dir")->group(files);
  app->add_option("--eval-every", o.eval_every, "steps between evaluations; 0: none")->group(files);
  app->add_option("--eval-batches", o.eval_batches, "batches of an evaluation")->group(files);
  app->add_option("--log-every", o.log_every, "steps between log lines")->group(files);
  app->add_flag("--profile", o.profile, "write a Chrome trace of one step")->group(files);
  app->add_flag("--check-nan", o.check_nan,
                "name the op that made a NaN (slower: copies the state)")
      ->group(files);
  add_machine_flags(*app, o.compile);
  app->add_option("--peak-gflops", o.peak_gflops, "peak for shares; 0: measure it")
      ->group("Machine");
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

}  // namespace espalier::cli
