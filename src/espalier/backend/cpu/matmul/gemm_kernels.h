// SPDX-License-Identifier: Apache-2.0
// The inner loops of the packed GEMM, one table per instruction set. Only these sources are
// compiled with vector flags; everything else picks a table at run time.
#pragma once

#include <cstdint>

#include "espalier/backend/cpu/cpu_info.h"
#include "espalier/backend/cpu/matmul/matmul_desc.h"
#include "espalier/tensor/dtype.h"

namespace espalier::cpu {

/// `lanes` vectors of length `kc`, to be laid out in panels of P lanes: dst[panel][k][lane].
struct PackArgs {
  const void* src;
  DType dtype;          // f32, bf16 or f16; panels are always f32
  int64_t lane_stride;  // elements from one lane to the next
  int64_t k_stride;     // elements from one k to the next
  int64_t lanes;        // the last panel is filled up with zeros
  int64_t kc;
  float* dst;
  int64_t panel_stride;  // floats; at least kc * P + kPackSpill
};

/// Floats a pack may write past the end of a panel.
inline constexpr int64_t kPackSpill = 8;

/// c[rows, cols] = act(acc + bias (+ c)), converted to c's type. `acc` may be `c` itself.
struct FinishArgs {
  const float* acc;
  const float* second;  // null, or c = silu(acc) * second, and no bias nor c is added
  int64_t acc_stride;   // floats between rows
  void* c;
  DType dtype;
  int64_t row_stride;  // elements
  int64_t col_stride;  // elements
  int64_t rows;
  int64_t cols;
  const float* bias;  // null, or one value per column (per row where bias_per_row)
  bool bias_per_row;
  bool add_c;  // add what c holds before the activation
  Activation activation;
};

/// What happens to a tile's sums on their way to C, in this order.
struct TileEnd {
  bool accumulate = false;      // add what C holds
  const float* bias = nullptr;  // add one value per column
  bool relu = false;
};

/// Memory a tile asks for on its way, for those after it: one line every kFetchEvery steps of k, so
/// that the requests never queue up in front of the tile's own loads.
struct TileFetch {
  const void* first;  // need not be readable
  int64_t step;       // bytes between lines
};
inline constexpr int64_t kFetchEvery = 8;

struct GemmKernels {
  const char* label;
  int64_t mr;  // rows of a tile: broadcast operand
  int64_t nr;  // columns of a tile: vector operand
  /// c[mr, nr] = end(a[kc][mr] * b[kc][nr]); sums over k in order, one fused multiply-add each.
  void (*tile)(int64_t kc, const float* a, const float* b, float* c, int64_t ldc,
               const TileEnd& end, TileFetch fetch);
  void (*pack_a)(const PackArgs& args);  // panels of mr lanes
  void (*pack_b)(const PackArgs& args);  // panels of nr lanes
  void (*finish)(const FinishArgs& args);
  /// Values of packed panels between f32 and bf16 or f16; `count` is a multiple of 8.
  void (*narrow)(const float* src, DType dtype, int64_t count, uint16_t* dst);
  void (*widen)(const uint16_t* src, DType dtype, int64_t count, float* dst);
};

/// 6x16 tiles of AVX2 registers.
const GemmKernels& gemm_kernels_avx2();
/// 14x32 tiles of AVX-512 registers.
const GemmKernels& gemm_kernels_avx512();
/// The 14x32 tile compiled for AVX2: spills, but runs the wide tile's code anywhere (for tests).
const GemmKernels& gemm_kernels_wide_avx2();

}  // namespace espalier::cpu
