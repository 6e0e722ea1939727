// SPDX-License-Identifier: Apache-2.0
// Included by the fma_loop_*.cpp files, each with its own vector flags.
#pragma once

#include "espalier/backend/cpu/peak/fma_loop.h"

/// Twelve chains cover a latency of 4 cycles on 2 units with room to spare and fit 16 registers.
/// Every instruction is volatile assembly: the compiler can neither fold nor drop one.
#define ESPALIER_FMA_LOOP(name, instruction, lanes, flops_per_lane)                \
  double name(int64_t rounds) {                                                    \
    typedef float Vector __attribute__((vector_size(lanes * 4)));                  \
    constexpr int kChains = 12;                                                    \
    Vector chain[kChains] = {};                                                    \
    const Vector x = Vector{} + 0.5f, y = x;                                       \
    for (int64_t round = 0; round < rounds; ++round) {                             \
      _Pragma("GCC unroll 12") for (int i = 0; i < kChains; ++i) {                 \
        asm volatile(instruction " %1, %2, %0" : "+v"(chain[i]) : "v"(x), "v"(y)); \
      }                                                                            \
    }                                                                              \
    return static_cast<double>(rounds) * kChains * (lanes) * (flops_per_lane);     \
  }
