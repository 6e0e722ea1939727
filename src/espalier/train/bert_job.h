// SPDX-License-Identifier: Apache-2.0
// `train bert`: documents in packed rows, masked tokens, BERT's steps for each shape of batch.
#pragma once

#include "espalier/train/bert_options.h"
#include "espalier/train/run_job.h"

namespace espalier::train {

JobResult train_bert(const BertOptions& options, const JobEvents& events);

}  // namespace espalier::train
