// SPDX-License-Identifier: Apache-2.0
// Attention tiles for AVX2, FMA and F16C.
#define ESPALIER_ATTENTION_LANES 8
#include "espalier/backend/cpu/attention/backward_tile.h"
#include "espalier/backend/cpu/attention/forward_tile.h"

namespace espalier::cpu {

const AttentionKernels kAttentionAvx2{kLanes, kPanel, forward_block, backward_head};

}  // namespace espalier::cpu
