// SPDX-License-Identifier: Apache-2.0
// espalier bench step-overhead
#include "espalier/train/bench_overhead.h"

#include <cstdio>
#include <memory>

#include "espalier/cli/command.h"

namespace espalier::cli {
namespace {

struct State {
  train::OverheadOptions options;
  bool json = false;
};

int run(const State& s) {
  const auto say = [](const std::string& line) {
    fmt::print("{}\n", line);
    std::fflush(stdout);
  };
  train::bench_overhead(s.options, [&](const train::OverheadResult& r) {
    say(s.json ? train::overhead_json(r) : train::overhead_line(r));
  });
  train::bench_by_hand(s.options, [&](const train::ByHandResult& r) {
    say(s.json ? train::by_hand_json(r) : train::by_hand_line(r));
  });
  return 0;
}

}  // namespace

void add_bench_overhead(Program& program, Command& bench) {
  Command* app = bench.add_subcommand(
      "step-overhead",
      "work of the host beside kernels, and make_train_step against a step by hand");
  const auto state = std::make_shared<State>();
  app->add_option("--steps", state->options.steps, "timed steps of each model; the median counts");
  app->add_option("--pairs", state->options.pairs, "timed runs of each of two equal steps");
  app->add_option("--threads", state->options.threads, "0: as many as there are processors");
  app->add_flag("--json", state->json, "one JSON object a line");
  app->footer("Example:\n  espalier bench step-overhead --steps 20 --pairs 10");
  app->callback([&program, state] { program.action = [state] { return run(*state); }; });
}

}  // namespace espalier::cli
