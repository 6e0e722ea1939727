// SPDX-License-Identifier: Apache-2.0
// espalier vocab
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>

#include "espalier/base/error.h"
#include "espalier/cli/command.h"
#include "espalier/io/atomic.h"
#include "espalier/text/byte_vocab.h"
#include "espalier/text/vocab_builder.h"
#include "espalier/train/data.h"
#include "espalier/train/run_options.h"

namespace espalier::cli {
namespace {

struct State {
  std::string data = "builtin";
  std::string output;
  std::string kind = "wordpiece";
  bool cased = false;
  text::VocabOptions options;
};

struct Learned {
  size_t tokens;
  std::map<std::string, std::string> files;
};

Learned learn(const State& state, std::string_view text) {
  if (state.kind == "bpe") {
    ESPALIER_CHECK(!state.cased, ErrorKind::user, "vocab",
                   "--cased is for wordpiece; bpe keeps all letters as they are");
    const auto made = text::learn_byte_vocabulary(
        text, {.size = state.options.size, .min_count = state.options.min_count});
    return {made.tokens.size() + 1, text::qwen2_tokenizer_files(made)};
  }
  text::VocabOptions options = state.options;
  if (state.cased) options.normalizer = {.strip_accents = false, .lowercase = false};
  const auto tokens = text::build_vocabulary(text, options);
  return {tokens.size(),
          {{"vocab.txt", text::vocab_txt(tokens)},
           {"tokenizer_config.json",
            fmt::format("{{\"tokenizer_class\": \"BertTokenizer\", \"do_lower_case\": {}}}\n",
                        !state.cased)}}};
}

int run(const State& state) {
  train::check_choice("kind", state.kind, {"wordpiece", "bpe"});
  const auto data = train::ByteData::open(state.data);
  const auto bytes = data.bytes();
  const Learned learned = learn(state, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  const io::FileContext context{.stage = "vocab", .next_step = "give a writable --output"};
  const std::filesystem::path folder = state.output;
  io::create_folders(folder, context);
  for (const auto& [name, content] : learned.files) {
    io::write_file_atomically(folder / name, content, context);
  }
  fmt::print("{} tokens in {}\n", learned.tokens, folder.string());
  return 0;
}

}  // namespace

void add_vocab(Program& program) {
  Command* app = program.app.add_subcommand("vocab", "learn a vocabulary from text");
  const auto state = std::make_shared<State>();
  app->add_option("--data", state->data, "a file of text, or builtin");
  app->add_option("--output", state->output, "folder to write its files into")->required();
  app->add_option("--kind", state->kind, "wordpiece (BERT) or bpe (over bytes, as Qwen2's)");
  app->add_option("--size", state->options.size, "tokens at most");
  app->add_option("--min-count", state->options.min_count, "of a pair that is joined");
  app->add_flag("--cased", state->cased, "wordpiece: keep capitals and accents");
  app->footer(
      "Examples:\n  espalier vocab --data corpus.txt --size 8192 --output vocabulary\n"
      "  espalier vocab --kind bpe --output vocabulary");
  app->callback([&program, state] { program.action = [state] { return run(*state); }; });
}

}  // namespace espalier::cli
