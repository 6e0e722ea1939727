// SPDX-License-Identifier: Apache-2.0
// espalier train bert
#include <memory>

#include "espalier/cli/text_flags.h"
#include "espalier/train/bert_job.h"

namespace espalier::cli {
namespace {

struct State {
  train::BertOptions options;
  TextFlags flags;
};

}  // namespace

void add_train_bert(Program& program, Command& train) {
  Command* app = train.add_subcommand("bert", "train BERT on masked tokens");
  const auto state = std::make_shared<State>();
  train::BertOptions& o = state->options;
  state->flags.add_to(*app, o);
  const char* data = "Data";
  app->add_option("--mlm-prob", o.mlm_prob, "share of the ordinary tokens to be guessed")
      ->group(data);
  app->add_option("--label-sigmas", o.label_sigmas,
                  "room for labels beyond their mean, in standard deviations; batches with more "
                  "compile once more")
      ->group(data);
  app->add_option("--dropout", o.dropout, "in place of the rates in the config")->group("Model");
  app->footer(
      "Without arguments a small model learns this project's own text, in about two minutes.\n"
      "Examples:\n"
      "  espalier train bert\n"
      "  espalier train bert --resume --steps 1000\n"
      "  espalier train bert --from bert-base-uncased --data text.jsonl --lr 2e-5 --save-dir run\n"
      "  espalier train bert --config bert/config.json --tokenizer bert --data text.jsonl "
      "--seq-len 512 --batch-size 64 --accumulate 16 --dtype bfloat16 --lr 5e-5 --save-dir run");
  app->callback([&program, app, state] {
    program.action = [&program, app, state] {
      return run_text(program, *app, state->options, state->flags, train::train_bert);
    };
  });
}

}  // namespace espalier::cli
