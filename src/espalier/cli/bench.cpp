// SPDX-License-Identifier: Apache-2.0
// espalier bench byte-lm, espalier bench plans
#include "espalier/train/bench.h"

#include <cstdio>
#include <memory>

#include "espalier/cli/byte_lm_flags.h"
#include "espalier/cli/command.h"
#include "espalier/train/bench_plans.h"

namespace espalier::cli {
namespace {

struct State {
  train::BenchOptions bench;
  train::ByteLmOptions options;
  ModelFlags model;
  std::string peers;
  bool table = false;
  bool json = false;
};

int run(State& state) {
  state.model.take(state.options);
  state.bench.model = state.options.model;
  std::vector<train::BenchSetting> settings{{.variant = state.options.variant,
                                             .dtype = state.options.compile.compute_dtype,
                                             .compile = state.options.compile.fuse,
                                             .flash = state.options.compile.flash}};
  if (state.table) settings = train::table_settings();
  const auto peers =
      state.peers.empty() ? std::vector<train::PeerRow>{} : train::read_peers(state.peers);
  if (!state.json) fmt::print("{}\n", train::flops_text(state.bench.model));
  const auto results =
      train::bench_byte_lm(state.bench, settings, [&](const train::BenchResult& result) {
        fmt::print("{}\n", state.json ? train::bench_json(result) : train::bench_line(result));
        std::fflush(stdout);
      });
  if (state.table && !state.json) fmt::print("\n{}", train::bench_tables(results, peers));
  return 0;
}

struct PlansState {
  train::PlanBenchOptions options;
  bool json = false;
};

int run_plans(const PlansState& state) {
  const auto results = train::bench_plans(state.options, [&](const train::PlanBenchResult& result) {
    if (state.json) fmt::print("{}\n", train::plan_bench_json(result));
    std::fflush(stdout);
  });
  if (!state.json) fmt::print("{}", train::plan_bench_text(results));
  return 0;
}

void add_bench_plans(Program& program, Command& bench) {
  Command* app = bench.add_subcommand("plans", "module trees and shard plans, 42 to 1,610 leaves");
  const auto state = std::make_shared<PlansState>();
  app->add_option("--repeats", state->options.repeats, "the median counts");
  app->add_option("--module-opt-limit", state->options.module_opt_limit,
                  "make the state of models of at most this many parameters");
  app->add_flag("--json", state->json, "one JSON object a line");
  app->footer("Example:\n  espalier bench plans --module-opt-limit 0");
  app->callback([&program, state] { program.action = [state] { return run_plans(*state); }; });
}

}  // namespace

void add_bench(Program& program) {
  Command* bench = program.app.add_subcommand("bench", "measure speed against the machine's peak");
  add_bench_plans(program, *bench);
  Command* app =
      bench->add_subcommand("byte-lm", "training steps of the byte-level language model");
  const auto state = std::make_shared<State>();
  app->add_option("--batch,--batch-size", state->bench.batch, "sequences of a step");
  app->add_option("--steps", state->bench.steps, "timed steps; the median counts");
  app->add_option("--warmup", state->bench.warmup, "steps before them");
  app->add_option("--threads", state->bench.threads, "0: as many as there are processors");
  app->add_option("--seed", state->bench.seed, "of values and data");
  app->add_flag("--table", state->table, "models, dtype x compile, flash x compile");
  app->add_option("--peers", state->peers, "file with results of bench/peers, for --table");
  app->add_flag("--json", state->json, "one JSON object a line");
  state->model.add_to(*app, state->options);
  app->footer(
      "Work is counted without recomputation: 6 FLOP per weight and position, causal "
      "attention half.\nExamples:\n"
      "  espalier bench byte-lm --dtype bfloat16\n"
      "  espalier bench byte-lm --table --steps 3");
  app->callback([&program, state] { program.action = [state] { return run(*state); }; });
  add_bench_bert(program, *bench);
  add_bench_extract(program, *bench);
  add_bench_read(program, *bench);
  add_bench_init(program, *bench);
  add_bench_overhead(program, *bench);
  add_bench_tokenizer(program, *bench);
  bench->footer(
      "Examples:\n"
      "  espalier bench byte-lm --dtype bfloat16\n"
      "  espalier bench bert --dropout 0.1 --json");
}

}  // namespace espalier::cli
