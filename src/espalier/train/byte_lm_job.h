// SPDX-License-Identifier: Apache-2.0
// `train byte-lm`: bytes in windows, the byte LM's steps, bits per byte.
#pragma once

#include "espalier/train/byte_lm_options.h"
#include "espalier/train/run_job.h"

namespace espalier::train {

JobResult train_byte_lm(const ByteLmOptions& options, const JobEvents& events);

}  // namespace espalier::train
