// SPDX-License-Identifier: Apache-2.0
// espalier vocab
#include <cstdio>
#include <filesystem>
#include <memory>

#include "espalier/cli/command.h"
#include "espalier/io/atomic.h"
#include "espalier/text/vocab_builder.h"
#include "espalier/train/data.h"

namespace espalier::cli {
namespace {

struct State {
  std::string data = "builtin";
  std::string output;
  bool cased = false;
  text::VocabOptions options;
};

int run(State& state) {
  if (state.cased) state.options.normalizer = {.strip_accents = false, .lowercase = false};
  const auto data = train::ByteData::open(state.data);
  const auto bytes = data.bytes();
  const auto tokens = text::build_vocabulary(
      {reinterpret_cast<const char*>(bytes.data()), bytes.size()}, state.options);
  const io::FileContext context{.stage = "vocab", .next_step = "give a writable --output"};
  const std::filesystem::path folder = state.output;
  io::create_folders(folder, context);
  io::write_file_atomically(folder / "vocab.txt", text::vocab_txt(tokens), context);
  io::write_file_atomically(folder / "tokenizer_config.json",
                            fmt::format("{{\"tokenizer_class\": \"BertTokenizer\", "
                                        "\"do_lower_case\": {}}}\n",
                                        !state.cased),
                            context);
  fmt::print("{} tokens in {}\n", tokens.size(), (folder / "vocab.txt").string());
  return 0;
}

}  // namespace

void add_vocab(Program& program) {
  CLI::App* app = program.app.add_subcommand("vocab", "learn a WordPiece vocabulary from text");
  const auto state = std::make_shared<State>();
  app->add_option("--data", state->data, "a file of text, or builtin");
  app->add_option("--output", state->output, "folder to write vocab.txt into")->required();
  app->add_option("--size", state->options.size, "tokens at most");
  app->add_option("--min-count", state->options.min_count, "of a pair that is joined");
  app->add_flag("--cased", state->cased, "keep capitals and accents");
  app->footer("Example:\n  espalier vocab --data corpus.txt --size 8192 --output vocabulary");
  app->callback([&program, state] { program.action = [state] { return run(*state); }; });
}

}  // namespace espalier::cli
