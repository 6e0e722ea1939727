// SPDX-License-Identifier: Apache-2.0
// Every choice of a Qwen2 run, and what of it goes into checkpoints.
#pragma once

#include <cstdint>
#include <string>

#include "espalier/models/qwen2.h"
#include "espalier/train/packed_rows.h"
#include "espalier/train/text_options.h"

namespace espalier::train {

struct Qwen2Options : TextOptions {
  /// A small Qwen2 on the embedded text; trains in two minutes on two cores.
  Qwen2Options();

  /// In place of what the config says; 0: as it is.
  int64_t layers = 0, hidden = 0, heads = 0, kv_heads = 0, ffn = 0;
  std::string end_token;  // that stands between texts
};

/// The architecture: of a config.json, of the checkpoint, or a small one for `vocabulary` tokens,
/// with the sizes of the options. Throws `user` when a row is longer than its positions, `data`
/// when its embedding has fewer rows than there are tokens.
models::Qwen2Config qwen2_run_config(const Qwen2Options& options, int64_t vocabulary);

CheckpointSection qwen2_options_section(const Qwen2Options& options);
/// Takes over what qwen2_options_section and the data's section hold.
void apply_qwen2_options(const LoadedCheckpoint& loaded, Qwen2Options& options);
/// The same from the newest checkpoint in options.save_dir, so that resuming needs no flags; what a
/// flag says is set after this. False when there is none.
bool take_over_run(Qwen2Options& options);

PackedRows::Options row_options(const TextOptions& options);

}  // namespace espalier::train
