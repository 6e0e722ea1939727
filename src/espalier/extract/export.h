// SPDX-License-Identifier: Apache-2.0
// espalier export: a run in the layout of another program.
//
// sae-lens: what SAELens (>= 6) trains from with use_cached_activations. A folder as `datasets`
// saves it: state.json, dataset_info.json and data-*-of-*.arrow; each row has `context` tokens, one
// column [context, width] for each activation and their token_ids.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "espalier/extract/reader.h"

namespace espalier::extract {

struct ExportOptions {
  std::string run, output;         // folder or URL; folder, which must not exist or be empty
  std::vector<std::string> hooks;  // globs; empty: all
  int64_t context = 128;           // context_size of the trainer's configuration
  DType dtype = DType::f32;        // or f16: Arrow has no bf16
  bool transformer_lens = true;    // columns have that library's names of hooks
  bool shuffle = false;            // rows are tokens from all over the run, not neighbours
  uint64_t seed = 0;
  int64_t file_bytes = 500'000'000;  // of an Arrow file, about
  std::function<void(int64_t tokens, int64_t total)> progress;
};

struct ExportReport {
  std::vector<std::string> columns;
  int64_t rows = 0, tokens = 0;
  int64_t left_over = 0;  // tokens that do not fill a row
  int64_t files = 0, bytes = 0;
};

/// The name that TransformerLens has for a hook: "resid_post.3" is "blocks.3.hook_resid_post".
/// Another name stays as it is.
std::string transformer_lens_name(std::string_view hook);

/// The folder appears whole or not at all. Throws `user` for an output that holds something.
ExportReport export_sae_lens(const ExportOptions& options);

}  // namespace espalier::extract
