// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/text_options.h"

#include <filesystem>

#include "espalier/base/error.h"
#include "espalier/io/json.h"

namespace espalier::train {
namespace {

using Json = nlohmann::ordered_json;

}  // namespace

std::string TextOptions::config_path() const {
  return from.empty() ? config : (std::filesystem::path(from) / "config.json").string();
}

void validate_text(const TextOptions& o) {
  validate_run(o);
  ESPALIER_CHECK(o.config.empty() || o.from.empty(), ErrorKind::user, "train",
                 "--config {} and --from {} both bring an architecture; give one of them", o.config,
                 o.from);
  ESPALIER_CHECK(o.from.empty() || o.resume_from.empty(), ErrorKind::user, "train",
                 "--from {} starts a run and --resume goes on from {}; give one of them", o.from,
                 o.resume_from);
}

void check_vocabulary(std::string_view model, int64_t tokens, int64_t rows,
                      const std::string& label) {
  ESPALIER_CHECK(tokens <= rows, ErrorKind::data, model,
                 "the vocabulary has {} tokens and the embedding vocab_size = {} rows, in {}; give "
                 "the --tokenizer that belongs to it",
                 tokens, rows, label);
}

void check_seq_len(std::string_view model, int64_t seq_len, int64_t positions,
                   const std::string& label) {
  ESPALIER_CHECK(seq_len <= positions, ErrorKind::user, model,
                 "--seq-len {} is longer than max_position_embeddings = {} in {}", seq_len,
                 positions, label);
}

CheckpointSection section_of_json(std::string_view text) {
  CheckpointSection section;
  const Json json = io::parse_ordered_json(text);
  for (const auto& [key, value] : json.items()) {
    if (value.is_boolean()) section[key] = value.get<bool>();
    if (value.is_number_integer()) section[key] = value.get<int64_t>();
    if (value.is_number_float()) section[key] = value.get<double>();
    if (value.is_string()) section[key] = value.get<std::string>();
  }
  return section;
}

std::string json_of_section(const CheckpointSection& section) {
  Json json;
  for (const auto& [name, value] : section) {
    std::visit([&slot = json[name]](const auto& v) { slot = v; }, value);
  }
  return json.dump();
}

CheckpointSection text_options_section(const TextOptions& o) {
  CheckpointSection section = run_section(o);
  section["freeze"] = o.freeze;
  return section;
}

void apply_text_options(const LoadedCheckpoint& loaded, std::string_view job, TextOptions& o) {
  check_job(loaded, job);
  apply_run_section(loaded, o);
  SavedSection(loaded.checkpoint.options, loaded.folder).take("freeze", o.freeze);
  const SavedSection data(loaded.checkpoint.data, loaded.folder);
  data.take("seq_len", o.seq_len);
  data.take("pack", o.pack);
  // A run that ended before its first checkpoint has no folder of model and vocabulary yet.
  if (loaded.checkpoint.step > 0) o.resume_from = loaded.folder.string();
}

}  // namespace espalier::train
