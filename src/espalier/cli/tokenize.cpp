// SPDX-License-Identifier: Apache-2.0
// espalier tokenize
#include "espalier/text/jobs.h"

#include <iostream>
#include <memory>

#include "espalier/cli/command.h"

namespace espalier::cli {
namespace {

struct State {
  std::string tokenizer;
  text::TokenizeOptions options;
};

}  // namespace

void add_tokenize(Program& program) {
  Command* app = program.app.add_subcommand("tokenize", "turn text into token ids, or back");
  const auto state = std::make_shared<State>();
  app->add_option("--tokenizer", state->tokenizer,
                  "folder with tokenizer.json, vocab.txt or vocab.json and merges.txt")
      ->required();
  app->add_flag("--no-special", state->options.no_special,
                "no tokens around the text; with --decode: leave special tokens out");
  app->add_flag("--decode", state->options.decode, "read lists of ids, print text");
  app->add_flag("--json", state->options.json, "one JSON object a line, with the tokens");
  app->footer(
      "Reads one JSON string a line (a list of ids with --decode) from standard input.\n"
      "Example:\n  echo '\"Hello\"' | espalier tokenize --tokenizer model");
  app->callback([&program, state] {
    program.action = [state] {
      text::tokenize_lines(text::Tokenizer::open(state->tokenizer), state->options, std::cin,
                           std::cout);
      return 0;
    };
  });
}

}  // namespace espalier::cli
