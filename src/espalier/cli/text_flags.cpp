// SPDX-License-Identifier: Apache-2.0
#include "espalier/cli/text_flags.h"

namespace espalier::cli {

void TextFlags::add_to(Command& app, train::TextOptions& o) {
  const char* data = "Data";
  app.add_option("--data", o.data,
                 "text with empty lines between documents, .jsonl with a \"text\" a line, or "
                 "builtin: this project's own text")
      ->group(data);
  app.add_option("--tokenizer", o.tokenizer,
                 "folder with the files of a tokenizer, or one of them; without: that of --from, "
                 "or learned from --data")
      ->group(data);
  app.add_option("--vocab-size", o.vocab_size, "tokens of a vocabulary that is learned")
      ->group(data);
  app.add_option("--seq-len", o.seq_len, "tokens of a row")->group(data);
  app.add_option("--pack", o.pack, "1: several documents in a row, 0: one and padding")
      ->group(data);
  const char* model = "Model";
  app.add_option("--config", o.config, "config.json of the model; without: a small one")
      ->group(model);
  app.add_option("--from", o.from, "Hugging Face folder whose weights the run starts from")
      ->group(model);
  app.add_option("--freeze", o.freeze, "globs of parameters to leave, separated by commas")
      ->group(model);
  app.add_option("--attention", attention, "fused, or eager: from basic ops")->group("Compilation");
  compile.add_to(app, o.compile);
  add_run_flags(app, o);
}

void TextFlags::from(const train::TextOptions& o) {
  compile.from(o.compile);
  attention = o.compile.flash ? "fused" : "eager";
}

void TextFlags::take(train::TextOptions& o) const {
  compile.take(o.compile);
  train::check_choice("attention", attention, {"fused", "eager"});
  o.compile.flash = attention == "fused";
}

}  // namespace espalier::cli
