// SPDX-License-Identifier: Apache-2.0
// Every choice of a BERT run, and what of it goes into checkpoints.
#pragma once

#include <cstdint>

#include "espalier/models/bert.h"
#include "espalier/train/mlm_data.h"
#include "espalier/train/text_options.h"

namespace espalier::train {

struct BertOptions : TextOptions {
  /// A small BERT on the embedded text; trains in two minutes on two cores.
  BertOptions();

  double mlm_prob = 0.15;
  double label_sigmas = 6.0;
  double dropout = -1.0;  // in place of both rates of the config; negative: as they are
};

/// The architecture: of a config.json, of the checkpoint, or the small one for `vocabulary`
/// tokens, with options.dropout. Throws `user` when a row is longer than its positions, `data` when
/// its embedding has fewer rows than there are tokens.
models::BertConfig bert_config(const BertOptions& options, int64_t vocabulary);

/// What must agree to resume: everything of config.json but the dropout rates.
CheckpointSection bert_config_section(const models::BertConfig& config);
CheckpointSection bert_options_section(const BertOptions& options);
/// The model of a checkpoint; throws `user` when it is of another kind.
models::BertConfig read_bert_checkpoint_config(const LoadedCheckpoint& loaded);
/// Takes over what bert_options_section and the data's section hold.
void apply_bert_options(const LoadedCheckpoint& loaded, BertOptions& options);
/// The same from the newest checkpoint in options.save_dir, so that resuming needs no flags; what a
/// flag says is set after this. False when there is none.
bool take_over_run(BertOptions& options);

MlmOptions mlm_options(const BertOptions& options);

}  // namespace espalier::train
