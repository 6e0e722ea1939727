// SPDX-License-Identifier: Apache-2.0
// espalier bench tokenizer
#include "espalier/train/bench_tokenizer.h"

#include <fmt/format.h>

#include <memory>

#include "espalier/cli/command.h"

namespace espalier::cli {

void add_bench_tokenizer(Program& program, Command& bench) {
  struct State {
    train::TokenizerBenchOptions options;
    bool json = false;
  };
  Command* app = bench.add_subcommand("tokenizer", "text to token ids, on one core");
  const auto state = std::make_shared<State>();
  app->add_option("--tokenizer", state->options.tokenizer,
                  "folder of a tokenizer; without: WordPiece learned from the built-in corpus");
  app->add_option("--data", state->options.data, "a file of text, or builtin");
  app->add_option("--rounds", state->options.rounds, "timed passes; the median counts");
  app->add_flag("--json", state->json, "one JSON object");
  app->footer(
      "bench/peers/tokenizers_bench.py measures the library `tokenizers` in turns with it.\n"
      "Example:\n  espalier bench tokenizer --tokenizer model --data text.txt");
  app->callback([&program, state] {
    program.action = [state] {
      const auto result = train::bench_tokenizer(state->options);
      fmt::print("{}\n", state->json ? train::tokenizer_bench_json(result)
                                     : train::tokenizer_bench_line(result));
      return 0;
    };
  });
}

}  // namespace espalier::cli
