// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "espalier/backend/cpu/attention/tasks.h"

namespace espalier::cpu {

/// The tile code with 16 lanes, as AVX-512 runs it, compiled for AVX2 (two registers a vector).
const AttentionKernels& wide_attention_kernels();

/// Element 0 of the vector functions of simd.h.
float wide_exp2(float x);
float wide_log(float x);

}  // namespace espalier::cpu
