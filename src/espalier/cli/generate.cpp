// SPDX-License-Identifier: Apache-2.0
// espalier generate RUN
#include "espalier/train/generate.h"

#include <cstdio>
#include <memory>

#include "espalier/cli/command.h"
#include "espalier/cli/run_flags.h"
#include "espalier/cli/signals.h"

namespace espalier::cli {
namespace {

struct State {
  RunFlags flags;
  std::string prompt;
  train::GenerateOptions options;
};

int run(State& state) {
  const train::LoadedCheckpoint loaded = state.flags.open();
  const models::ByteLmConfig config = train::read_config(loaded);
  train::Step step =
      train::byte_lm_logits_step(config, models::ByteLmVariant::library, state.flags.compile);
  step.compile();
  train::restore_parameters(step, loaded);
  std::fwrite(state.prompt.data(), 1, state.prompt.size(), stdout);
  train::generate(step, config.seq_len, state.prompt, state.options, [](char byte) {
    std::fputc(byte, stdout);
    std::fflush(stdout);
    return stop_signal() != 0;
  });
  std::fputc('\n', stdout);
  return 0;
}

}  // namespace

void add_generate(Program& program) {
  Command* app = program.app.add_subcommand("generate", "write text with a trained model");
  const auto state = std::make_shared<State>();
  state->flags.add_to(*app);
  app->add_option("--prompt", state->prompt, "text to continue");
  app->add_option("--length", state->options.length, "bytes to add");
  app->add_option("--temperature", state->options.temperature, "0: the likeliest byte each time");
  app->add_option("--top-k", state->options.top_k, "draw among the k likeliest bytes; 0: all");
  app->add_option("--seed", state->options.seed, "of the draws");
  app->footer("Example:\n  espalier generate run --prompt 'int main' --temperature 0.8 --top-k 40");
  app->callback([&program, state] { program.action = [state] { return run(*state); }; });
}

}  // namespace espalier::cli
