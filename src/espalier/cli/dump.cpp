// SPDX-License-Identifier: Apache-2.0
// espalier dump byte-lm, espalier dump bert
#include "espalier/train/dump.h"

#include <cstdio>
#include <memory>

#include "espalier/cli/byte_lm_flags.h"
#include "espalier/cli/command.h"
#include "espalier/cli/plan_flags.h"
#include "espalier/train/partition_step.h"

namespace espalier::cli {
namespace {

struct State {
  train::ByteLmOptions options;
  ModelFlags model;
  PlanFlags plan;
  train::BertDumpOptions bert;
  std::string stage = "traced";
  bool list = false;
};

train::PartitionChoice partition_choice(const State& state) {
  return {shard::Mesh::parse(state.plan.mesh), state.plan.plans()};
}

int run(State& state) {
  if (state.list) {
    for (const std::string& stage : train::dump_stages()) fmt::print("{}\n", stage);
    return 0;
  }
  state.model.take(state.options);
  fmt::print("{}\n", state.stage == "partition"
                         ? train::dump_partitioned_byte_lm(state.options, partition_choice(state))
                         : train::dump_byte_lm(state.options, state.stage));
  return 0;
}

void add_bert(CLI::App& dump, Program& program) {
  CLI::App* app = dump.add_subcommand("bert", "of BERT's training step");
  const auto state = std::make_shared<State>();
  train::BertDumpOptions& o = state->bert;
  app->add_option("--config", o.model, "bert-base, bert-2l-256h, or a config.json");
  app->add_option("--stage", o.stage, "partition, grad, PASS, fused or program");
  app->add_option("--batch-size,--batch", o.batch, "sequences of a step, on all devices");
  app->add_option("--seq-len,--seq", o.seq, "tokens of a sequence");
  app->add_option("--labels", o.labels, "labelled tokens of a step");
  state->plan.add_to(*app);
  app->footer(
      "Example:\n"
      "  espalier dump bert --config bert-2l-256h --mesh data=2,model=2 --preset bert-tp");
  app->callback([&program, state] {
    program.action = [state] {
      fmt::print("{}\n", train::dump_bert(state->bert, partition_choice(*state)));
      return 0;
    };
  });
}

}  // namespace

void add_dump(Program& program) {
  CLI::App* dump = program.app.add_subcommand("dump", "print a stage of compilation as text");
  CLI::App* app = dump->add_subcommand("byte-lm", "of the byte-level language model");
  const auto state = std::make_shared<State>();
  app->add_option("--stage", state->stage,
                  "traced, forward-PASS, grad, PASS, fused, program, or partition (with --mesh); "
                  "--list shows all");
  app->add_flag("--list", state->list, "names of the stages, in order");
  app->add_option("--batch-size,--batch", state->options.batch_size, "sequences of a step");
  state->model.add_to(*app, state->options);
  state->plan.add_to(*app);
  app->footer(
      "All stages but program parse back: a failing graph becomes a test by paste.\n"
      "Example:\n  espalier dump byte-lm --num-layer 1 --stage fused");
  app->callback([&program, state] { program.action = [state] { return run(*state); }; });
  add_bert(*dump, program);
}

}  // namespace espalier::cli
