// SPDX-License-Identifier: Apache-2.0
// Attention tiles for AVX-512 (F, BW, DQ, VL).
#define ESPALIER_ATTENTION_LANES 16
#include "espalier/backend/cpu/attention/backward_tile.h"
#include "espalier/backend/cpu/attention/forward_tile.h"

namespace espalier::cpu {

const AttentionKernels kAttentionAvx512{kLanes, kPanel, forward_block, backward_head};

}  // namespace espalier::cpu
