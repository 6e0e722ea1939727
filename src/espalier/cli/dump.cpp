// SPDX-License-Identifier: Apache-2.0
// espalier dump byte-lm, espalier dump bert
#include "espalier/train/dump.h"

#include <cstdio>
#include <memory>

#include "espalier/base/error.h"
#include "espalier/cli/byte_lm_flags.h"
#include "espalier/cli/command.h"
#include "espalier/cli/plan_flags.h"
#include "espalier/train/partition_step.h"

namespace espalier::cli {
namespace {

constexpr const char* kPartition = "partition";

/// What is printed of a model.
struct StageFlags {
  PlanFlags plan;
  std::string stage;
  bool list = false;

  void add_to(Command& app) {
    app.add_option("--stage", stage,
                   "traced, forward-PASS, grad, PASS, fused or program; partition with --mesh");
    app.add_flag("--list", list, "names of the stages, in order");
    plan.add_to(app);
    app.footer(
        "The default is the stage traced, with --mesh partition. All stages but program parse "
        "back:\na failing graph becomes a test by paste.\nExamples:\n"
        "  espalier dump byte-lm --num-layer 1 --stage fused\n"
        "  espalier dump bert --config bert-2l-256h --mesh data=2,model=2 --preset bert-tp");
  }

  template <typename Options, typename Dump, typename DumpPartitioned>
  int print(const Options& options, Dump dump, DumpPartitioned dump_partitioned) const {
    if (list) {
      for (const std::string& name : train::dump_stages()) fmt::print("{}\n", name);
      return 0;
    }
    const std::string chosen = !stage.empty() ? stage : plan.mesh.empty() ? "traced" : kPartition;
    if (chosen == kPartition) {
      fmt::print("{}\n", dump_partitioned(options, {shard::Mesh::parse(plan.mesh), plan.plans()}));
      return 0;
    }
    ESPALIER_CHECK(plan.empty(), ErrorKind::user, "dump",
                   "--mesh, --rule, --plan and --preset say how --stage partition cuts a step; "
                   "--stage {} is of one device",
                   chosen);
    fmt::print("{}\n", dump(options, chosen));
    return 0;
  }
};

void add_byte_lm(Command& dump, Program& program) {
  struct State {
    train::ByteLmOptions options;
    ModelFlags model;
    StageFlags stage;
  };
  Command* app = dump.add_subcommand("byte-lm", "of the byte-level language model");
  const auto state = std::make_shared<State>();
  app->add_option("--batch-size,--batch", state->options.batch_size, "sequences of a step");
  state->model.add_to(*app, state->options);
  state->stage.add_to(*app);
  app->callback([&program, state] {
    program.action = [state] {
      state->model.take(state->options);
      return state->stage.print(state->options, train::dump_byte_lm,
                                train::dump_partitioned_byte_lm);
    };
  });
}

void add_bert(Command& dump, Program& program) {
  struct State {
    train::BertDumpOptions options;
    CompileFlags compile;
    StageFlags stage;
  };
  Command* app = dump.add_subcommand("bert", "of BERT's training step");
  const auto state = std::make_shared<State>();
  train::BertDumpOptions& o = state->options;
  app->add_option("--config", o.model, "bert-base, bert-2l-256h, or a config.json");
  app->add_option("--batch-size,--batch", o.batch, "sequences of a step, on all devices");
  app->add_option("--seq-len,--seq", o.seq, "tokens of a sequence");
  app->add_option("--labels", o.labels, "labelled tokens of a step");
  state->compile.add_to(*app, o.compile);
  app->add_option("--flash", o.compile.flash, "0: attention from basic ops, 1: flash attention")
      ->group("Compilation");
  state->stage.add_to(*app);
  app->callback([&program, state] {
    program.action = [state] {
      state->compile.take(state->options.compile);
      return state->stage.print(state->options, train::dump_bert, train::dump_partitioned_bert);
    };
  });
}

}  // namespace

void add_dump(Program& program) {
  Command* dump = program.app.add_subcommand("dump", "print a stage of compilation as text");
  add_byte_lm(*dump, program);
  add_bert(*dump, program);
  dump->footer(
      "Examples:\n"
      "  espalier dump byte-lm --list\n"
      "  espalier dump byte-lm --num-layer 1 --stage fused");
}

}  // namespace espalier::cli
