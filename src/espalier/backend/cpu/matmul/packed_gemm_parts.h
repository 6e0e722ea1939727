// SPDX-License-Identifier: Apache-2.0
// What the sources of PackedGemm share.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "espalier/backend/cpu/matmul/packed_gemm.h"

namespace espalier::cpu {

inline constexpr int64_t kLine = 16;       // floats of a cache line
inline constexpr int64_t kPackPiece = 16;  // panels of B packed by one thread at a time

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }
/// Start of part `i` of `parts` equal parts of [0, n).
inline int64_t part(int64_t n, int64_t parts, int64_t i) { return n * i / parts; }

inline const void* at(const void* base, DType dtype, int64_t element) {
  return static_cast<const char*>(base) + element * size_of(dtype);
}
inline void* at(void* base, DType dtype, int64_t element) {
  return static_cast<char*>(base) + element * size_of(dtype);
}

struct PackedGemm::Call {
  const void* a;
  const void* b;
  const void* packed;
  const float* bias;
  void* c;
  float* scratch;
};

struct alignas(64) PackedGemm::Counters {
  std::atomic<int64_t> piece{0};     // of packing, next to be taken
  std::atomic<int64_t> block{0};     // of rows, next to be taken
  std::atomic<int64_t> finished{0};  // blocks of rows
  void reset() {
    piece.store(0, std::memory_order_relaxed);
    block.store(0, std::memory_order_relaxed);
    finished.store(0, std::memory_order_relaxed);
  }
};

/// The threads that work on one matrix, and this one's place among them.
struct PackedGemm::Team {
  int rank;
  int size;
  int first_thread;  // of the team: rank 0's own scratch
  float* b_buffer;
  int64_t stages = 0;  // passed so far: alternates buffers and counters
  int thread() const { return first_thread + rank; }
};

/// Columns [n0, n1) of C and k blocks [kb0, kb1), for which B is packed.
struct PackedGemm::Stage {
  const Call& call;
  const void* a;
  void* c;
  float* own_sums;   // this thread's
  float* own_panel;  // this thread's
  const void* packed;
  DType packed_dtype;
  int64_t n0;
  int64_t n1;
  int64_t kb0;
  int64_t kb1;
  int64_t columns;  // panels of nr columns
  Counters* counters;
};

}  // namespace espalier::cpu
