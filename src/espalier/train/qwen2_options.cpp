// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/qwen2_options.h"

#include "espalier/text/byte_vocab.h"
#include "espalier/train/run_state.h"

namespace espalier::train {
namespace {

models::Qwen2Config small_qwen2(int64_t vocabulary) {
  models::Qwen2Config c;
  c.vocab_size = vocabulary;
  c.hidden_size = 128;
  c.num_hidden_layers = 2;
  c.num_attention_heads = 4;
  c.num_key_value_heads = 2;
  c.intermediate_size = 384;
  c.max_position_embeddings = 2048;
  c.rope_theta = 1e4;
  return c;
}

}  // namespace

Qwen2Options::Qwen2Options() : end_token(text::kEndOfText) {
  optimizer = {.name = "adamw", .lr = 2e-3, .schedule = "cosine", .warmup = 50, .clip = 1.0};
  batch_size = 32;
  steps = 500;
  eval_every = 100;
  log_every = 10;
  save_every = 250;
  save_dir = "qwen2-run";
}

models::Qwen2Config qwen2_run_config(const Qwen2Options& o, int64_t vocabulary) {
  models::Qwen2Config c;
  std::string label = "the small model";
  if (const std::string path = o.config_path(); !path.empty()) {
    c = models::read_qwen2_config(path);
    label = path;
  } else if (!o.resume_from.empty()) {
    const LoadedCheckpoint loaded = load_checkpoint(o.resume_from);
    check_job(loaded, "qwen2");
    c = models::parse_qwen2_config(json_of_section(loaded.checkpoint.config), o.resume_from);
    label = o.resume_from;
  } else {
    c = small_qwen2(vocabulary);
  }
  const auto replace = [](int64_t choice, int64_t& size) {
    if (choice != 0) size = choice;
  };
  replace(o.layers, c.num_hidden_layers);
  replace(o.hidden, c.hidden_size);
  replace(o.heads, c.num_attention_heads);
  replace(o.kv_heads, c.num_key_value_heads);
  replace(o.ffn, c.intermediate_size);
  check_vocabulary("qwen2", vocabulary, c.vocab_size, label);
  check_seq_len("qwen2", o.seq_len, c.max_position_embeddings, label);
  return c;
}

CheckpointSection qwen2_options_section(const Qwen2Options& o) {
  CheckpointSection section = text_options_section(o);
  section["end_token"] = o.end_token;
  return section;
}

void apply_qwen2_options(const LoadedCheckpoint& loaded, Qwen2Options& o) {
  apply_text_options(loaded, "qwen2", o);
  SavedSection(loaded.checkpoint.options, loaded.folder).take("end_token", o.end_token);
}

bool take_over_run(Qwen2Options& options) {
  const auto loaded = find_run(options.save_dir);
  if (loaded) apply_qwen2_options(*loaded, options);
  return loaded.has_value();
}

PackedRows::Options row_options(const TextOptions& o) {
  return {.seq_len = o.seq_len, .pack = o.pack, .seed = o.seed};
}

}  // namespace espalier::train
