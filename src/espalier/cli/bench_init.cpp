// SPDX-License-Identifier: Apache-2.0
// espalier bench init
#include "espalier/train/bench_init.h"

#include <fmt/format.h>

#include <memory>

#include "espalier/cli/command.h"

namespace espalier::cli {

void add_bench_init(Program& program, Command& bench) {
  struct State {
    train::InitBenchOptions options;
    bool json = false;
  };
  Command* app = bench.add_subcommand("init", "normal initial values beside the memory's rate");
  const auto state = std::make_shared<State>();
  app->add_option("--values", state->options.values, "values of the tensor that is filled");
  app->add_option("--repeats", state->options.repeats, "the median counts");
  app->add_flag("--json", state->json, "one JSON object");
  app->footer("Example:\n  espalier bench init --values 10000000 --repeats 9");
  app->callback([&program, state] {
    program.action = [state] {
      const auto result = train::bench_init(state->options);
      fmt::print("{}\n",
                 state->json ? train::init_bench_json(result) : train::init_bench_line(result));
      return 0;
    };
  });
}

}  // namespace espalier::cli
