// SPDX-License-Identifier: Apache-2.0
#define ESPALIER_ATTENTION_LANES 16
#include "tests/backend_attention/wide_kernels.h"

#include "espalier/backend/cpu/attention/backward_tile.h"
#include "espalier/backend/cpu/attention/forward_tile.h"

namespace espalier::cpu {

const AttentionKernels& wide_attention_kernels() {
  static const AttentionKernels kernels{kLanes, kPanel, forward_block, backward_head};
  return kernels;
}

float wide_exp2(float x) { return exp2(splat(x))[0]; }
float wide_log(float x) { return log(splat(x))[0]; }

}  // namespace espalier::cpu
