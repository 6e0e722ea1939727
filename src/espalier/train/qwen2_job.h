// SPDX-License-Identifier: Apache-2.0
// `train qwen2`: documents in packed rows, every token guessed from those before it.
#pragma once

#include "espalier/train/qwen2_options.h"
#include "espalier/train/run_job.h"

namespace espalier::train {

JobResult train_qwen2(const Qwen2Options& options, const JobEvents& events);

}  // namespace espalier::train
