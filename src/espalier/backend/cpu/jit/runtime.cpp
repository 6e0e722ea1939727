// SPDX-License-Identifier: Apache-2.0
#include "espalier/backend/cpu/jit/runtime.h"

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "espalier/plan/loop.h"

namespace espalier::cpu::jit {
namespace {

/// Prepares the walk over outer indices. `state` holds i64 words: offset[width] of each operand
/// (bytes; for size 0, an index operand, units), step[rank][width], and index[rank]. step[d] is
/// what to add to the offsets when index d grows by one and those after it return to zero.
void start_rows(const plan::LoopCall* call, int64_t rank, int64_t operands, int64_t width,
                const uint8_t* sizes, int64_t* state) {
  int64_t* offset = state;
  int64_t* step = state + width;
  int64_t* index = step + rank * width;
  std::memset(state, 0, static_cast<size_t>((width * (rank + 1) + rank) * 8));
  int64_t rest = call->begin;
  for (int64_t d = rank - 1; d >= 0; --d) {
    const int64_t extent = call->outer_extents[d];
    if (extent > 0) {
      index[d] = rest % extent;
      rest /= extent;
    }
  }
  for (int64_t k = 0; k < operands; ++k) {
    const int64_t unit = sizes[k] ? sizes[k] : 1;
    int64_t back = 0;  // from the last index of the later dimensions to their first
    for (int64_t d = rank - 1; d >= 0; --d) {
      const int64_t stride = call->strides[k * (rank + 1) + d] * unit;
      offset[k] += index[d] * stride;
      step[d * width + k] = stride - back;
      back += (call->outer_extents[d] - 1) * stride;
    }
  }
}

/// Copies `count` elements of `size` bytes that lie `stride` bytes apart to adjacent ones.
void stage_in(char* stage, const char* memory, int64_t count, int64_t size, int64_t stride) {
  if (stride == size) {
    std::memcpy(stage, memory, static_cast<size_t>(count * size));
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    std::memcpy(stage + i * size, memory + i * stride, static_cast<size_t>(size));
  }
}
void stage_out(const char* stage, char* memory, int64_t count, int64_t size, int64_t stride) {
  if (stride == size) {
    std::memcpy(memory, stage, static_cast<size_t>(count * size));
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    std::memcpy(memory + i * stride, stage + i * size, static_cast<size_t>(size));
  }
}

template <typename T, T (*function)(T)>
void map(T* x, int64_t count) {
  for (int64_t i = 0; i < count; ++i) x[i] = function(x[i]);
}
void map_pow(double* x, const double* y, int64_t count) {
  for (int64_t i = 0; i < count; ++i) x[i] = std::pow(x[i], y[i]);
}
void map_divide(int64_t* x, const int64_t* y, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    if (y[i] == 0) {
      x[i] = 0;
    } else if (y[i] == -1) {
      x[i] = static_cast<int64_t>(0 - static_cast<uint64_t>(x[i]));  // the minimum wraps
    } else {
      x[i] /= y[i];
    }
  }
}

template <typename Function>
void* address(Function* function) {
  return reinterpret_cast<void*>(function);
}

}  // namespace

std::span<const RuntimeSymbol> runtime_symbols() {
  static const auto symbols = std::to_array<RuntimeSymbol>({
      {"espalier_jit_start_rows", address(start_rows)},
      {"espalier_jit_stage_in", address(stage_in)},
      {"espalier_jit_stage_out", address(stage_out)},
      {"espalier_jit_exp", address(map<double, std::exp>)},
      {"espalier_jit_log", address(map<double, std::log>)},
      {"espalier_jit_tanh", address(map<double, std::tanh>)},
      {"espalier_jit_erf", address(map<double, std::erf>)},
      {"espalier_jit_sin", address(map<double, std::sin>)},
      {"espalier_jit_cos", address(map<double, std::cos>)},
      {"espalier_jit_sinf", address(map<float, std::sin>)},
      {"espalier_jit_cosf", address(map<float, std::cos>)},
      {"espalier_jit_pow", address(map_pow)},
      {"espalier_jit_divide", address(map_divide)},
  });
  return symbols;
}

}  // namespace espalier::cpu::jit
