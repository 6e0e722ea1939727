// SPDX-License-Identifier: Apache-2.0
// espalier train qwen2
#include <memory>

#include "espalier/cli/text_flags.h"
#include "espalier/train/qwen2_job.h"

namespace espalier::cli {
namespace {

struct State {
  train::Qwen2Options options;
  TextFlags flags;
};

}  // namespace

void add_train_qwen2(Program& program, Command& train) {
  Command* app = train.add_subcommand("qwen2", "train a Qwen2 to guess the next token");
  const auto state = std::make_shared<State>();
  train::Qwen2Options& o = state->options;
  state->flags.add_to(*app, o);
  app->add_option("--end-token", o.end_token, "the token that stands between texts")->group("Data");
  const char* model = "Model";
  const auto size = [&](const char* flags, int64_t& value, const char* what) {
    app->add_option(flags, value, what)->positive()->group(model);
  };
  size("--num-layer,--layers", o.layers, "layers, in place of the config's");
  size("--hidden", o.hidden, "hidden size, likewise");
  size("--heads,--num-head", o.heads, "attention heads, likewise");
  size("--kv-heads", o.kv_heads, "heads of keys and values, likewise");
  size("--ffn", o.ffn, "width of the feed-forward part, likewise");
  app->footer(
      "Without arguments a small model learns this project's own text.\n"
      "Examples:\n"
      "  espalier train qwen2\n"
      "  espalier train qwen2 --resume --steps 1000\n"
      "  espalier train qwen2 --from Qwen2.5-0.5B --data text.jsonl --lr 1e-5 --save-dir run\n"
      "  espalier train qwen2 --tokenizer Qwen2.5-0.5B --layers 4 --hidden 256 --data text.jsonl");
  app->callback([&program, app, state] {
    program.action = [&program, app, state] {
      return run_text(program, *app, state->options, state->flags, train::train_qwen2);
    };
  });
}

}  // namespace espalier::cli
