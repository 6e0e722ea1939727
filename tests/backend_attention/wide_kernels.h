// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "espalier/backend/cpu/attention/tasks.h"

namespace espalier::cpu {

/// The tile code with 16 lanes, as AVX-512 runs it, compiled for AVX2 (two registers a vector).
const AttentionKernels& wide_attention_kernels();

}  // namespace espalier::cpu
