// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/bert_options.h"

#include "espalier/base/error.h"
#include "espalier/io/json.h"
#include "espalier/train/run_state.h"

namespace espalier::train {
namespace {

constexpr const char* kRates[] = {"hidden_dropout_prob", "attention_probs_dropout_prob"};

models::BertConfig small_bert(int64_t vocabulary) {
  models::BertConfig c;
  c.vocab_size = vocabulary;
  c.hidden_size = 128;
  c.num_hidden_layers = 2;
  c.num_attention_heads = 2;
  c.intermediate_size = 512;
  return c;
}

}  // namespace

BertOptions::BertOptions() {
  optimizer = {.name = "adamw", .lr = 1e-3, .schedule = "cosine", .warmup = 50, .clip = 1.0};
  batch_size = 32;
  steps = 500;
  eval_every = 100;
  log_every = 10;
  save_every = 250;
  save_dir = "bert-run";
}

models::BertConfig bert_config(const BertOptions& options, int64_t vocabulary) {
  models::BertConfig c;
  std::string label = "the small model";
  if (const std::string path = options.config_path(); !path.empty()) {
    c = models::read_bert_config(path);
    label = path;
  } else if (!options.resume_from.empty()) {
    const LoadedCheckpoint loaded = load_checkpoint(options.resume_from);
    c = read_bert_checkpoint_config(loaded);
    label = options.resume_from;
  } else {
    c = small_bert(vocabulary);
  }
  if (options.dropout >= 0.0) {
    c.hidden_dropout_prob = c.attention_probs_dropout_prob = options.dropout;
  }
  check_vocabulary("bert", vocabulary, c.vocab_size, label);
  check_seq_len("bert", options.seq_len, c.max_position_embeddings, label);
  return c;
}

CheckpointSection bert_config_section(const models::BertConfig& config) {
  CheckpointSection section = section_of_json(models::bert_config_json(config));
  for (const char* rate : kRates) section.erase(rate);
  return section;
}

models::BertConfig read_bert_checkpoint_config(const LoadedCheckpoint& loaded) {
  check_job(loaded, "bert");
  models::BertConfig c =
      models::parse_bert_config(json_of_section(loaded.checkpoint.config), loaded.folder.string());
  const SavedSection saved(loaded.checkpoint.options, loaded.folder);
  saved.take("hidden_dropout", c.hidden_dropout_prob);
  saved.take("attention_dropout", c.attention_probs_dropout_prob);
  return c;
}

CheckpointSection bert_options_section(const BertOptions& o) {
  CheckpointSection section = text_options_section(o);
  section["label_sigmas"] = o.label_sigmas;
  return section;
}

void apply_bert_options(const LoadedCheckpoint& loaded, BertOptions& o) {
  apply_text_options(loaded, "bert", o);
  SavedSection(loaded.checkpoint.options, loaded.folder).take("label_sigmas", o.label_sigmas);
  SavedSection(loaded.checkpoint.data, loaded.folder).take("mlm_prob", o.mlm_prob);
}

bool take_over_run(BertOptions& options) {
  const auto loaded = find_run(options.save_dir);
  if (loaded) apply_bert_options(*loaded, options);
  return loaded.has_value();
}

MlmOptions mlm_options(const BertOptions& o) {
  return {.seq_len = o.seq_len,
          .pack = o.pack,
          .mlm_prob = o.mlm_prob,
          .seed = o.seed,
          .label_sigmas = o.label_sigmas};
}

}  // namespace espalier::train
