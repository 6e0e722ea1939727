// SPDX-License-Identifier: Apache-2.0
// Loops of independent multiply-adds, one per instruction set: the arithmetic ceiling.
#pragma once

#include <cstdint>

namespace espalier::cpu {

/// Runs `rounds` rounds and returns the floating-point operations done.
using FmaLoop = double (*)(int64_t rounds);

double fma_loop_avx2(int64_t rounds);         // f32, 8 lanes
double fma_loop_avx512(int64_t rounds);       // f32, 16 lanes
double fma_loop_avx512_bf16(int64_t rounds);  // pairs of bf16 products summed in f32, 16 lanes

}  // namespace espalier::cpu
