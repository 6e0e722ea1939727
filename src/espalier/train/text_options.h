// SPDX-License-Identifier: Apache-2.0
// The choices that runs on tokenized text have beside those of every run.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "espalier/train/run_options.h"

namespace espalier::train {

struct TextOptions : RunOptions {
  std::string config;         // a config.json; empty: a small model
  std::string from;           // a Hugging Face folder: its config, its weights, its tokenizer
  std::string tokenizer;      // a folder or file; empty: of `from`, else learned from the data
  int64_t vocab_size = 4096;  // of a learned vocabulary, where no config says it
  int64_t seq_len = 128;
  bool pack = true;
  std::string freeze;       // globs of parameters that stay as they are, separated by commas
  std::string resume_from;  // checkpoint whose config and tokenizer are those of the run

  /// The file with the architecture that a flag names; empty where none does.
  std::string config_path() const;
};

/// validate_run, and that no two flags bring the architecture or the first values; throws `user`.
void validate_text(const TextOptions& options);

/// Throws `data` when the embedding has fewer rows than there are tokens.
void check_vocabulary(std::string_view model, int64_t tokens, int64_t rows,
                      const std::string& label);
/// Throws `user` when a row is longer than the model's positions.
void check_seq_len(std::string_view model, int64_t seq_len, int64_t positions,
                   const std::string& label);

/// The top-level numbers, strings and truths of a config.json, and back.
CheckpointSection section_of_json(std::string_view json);
std::string json_of_section(const CheckpointSection& section);

CheckpointSection text_options_section(const TextOptions& options);
/// Takes over what text_options_section and the data's section hold. Throws `user` when the
/// checkpoint is of another kind of model than `job`.
void apply_text_options(const LoadedCheckpoint& loaded, std::string_view job, TextOptions& options);

}  // namespace espalier::train
