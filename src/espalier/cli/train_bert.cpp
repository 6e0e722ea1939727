// SPDX-License-Identifier: Apache-2.0
// espalier train bert
#include <memory>

#include "espalier/cli/byte_lm_flags.h"
#include "espalier/cli/command.h"
#include "espalier/cli/screen.h"
#include "espalier/train/bert_job.h"

namespace espalier::cli {
namespace {

struct State {
  train::BertOptions options;
  CompileFlags compile;
  std::string attention = "fused";
};

int run(Program& program, State& state) {
  train::BertOptions& o = state.options;
  if (o.resume && !o.save_dir.empty()) {
    // The run's own choices first, then what this command line says.
    if (train::take_over_run(o)) {
      state.compile.from(o.compile);
      state.attention = o.compile.flash ? "fused" : "eager";
      parse(program);
    }
  }
  state.compile.take(o.compile);
  train::check_choice("attention", state.attention, {"fused", "eager"});
  o.compile.flash = state.attention == "fused";
  Screen screen;
  train::train_bert(o, screen.events());
  return 0;
}

}  // namespace

void add_train_bert(Program& program, CLI::App& train) {
  CLI::App* app = train.add_subcommand("bert", "train BERT on masked tokens");
  const auto state = std::make_shared<State>();
  train::BertOptions& o = state->options;
  const char* data = "Data";
  app->add_option("--data", o.data,
                  "text with empty lines between documents, .jsonl with a \"text\" a line, or "
                  "builtin: this project's own text")
      ->group(data);
  app->add_option("--tokenizer", o.tokenizer,
                  "folder with tokenizer.json or vocab.txt, or the file; without: learned from "
                  "--data")
      ->group(data);
  app->add_option("--vocab-size", o.vocab_size, "tokens of a vocabulary that is learned")
      ->group(data);
  app->add_option("--seq-len", o.seq_len, "tokens of a row")->group(data);
  app->add_option("--pack", o.pack, "1: several documents in a row, 0: one and padding")
      ->group(data);
  app->add_option("--mlm-prob", o.mlm_prob, "share of the ordinary tokens to be guessed")
      ->group(data);
  app->add_option("--label-sigmas", o.label_sigmas,
                  "room for labels beyond their mean, in standard deviations; batches with more "
                  "compile once more")
      ->group(data);
  const char* model = "Model";
  app->add_option("--config", o.config, "config.json of the model; without: a small one")
      ->group(model);
  app->add_option("--dropout", o.dropout, "in place of the rates in the config")->group(model);
  app->add_option("--freeze", o.freeze, "globs of parameters to leave, separated by commas")
      ->group(model);
  app->add_option("--attention", state->attention, "fused, or eager: from basic ops")
      ->group("Compilation");
  state->compile.add_to(*app, o.compile);
  add_run_flags(*app, o);
  app->footer(
      "Without arguments a small model learns this project's own text, in about two minutes.\n"
      "Examples:\n"
      "  espalier train bert\n"
      "  espalier train bert --resume --steps 1000\n"
      "  espalier train bert --config bert/config.json --tokenizer bert --data text.jsonl "
      "--seq-len 512 --batch-size 64 --accumulate 16 --dtype bfloat16 --lr 5e-5 --save-dir run");
  app->callback(
      [&program, state] { program.action = [&program, state] { return run(program, *state); }; });
}

}  // namespace espalier::cli
