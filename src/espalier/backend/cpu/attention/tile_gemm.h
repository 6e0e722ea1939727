// SPDX-License-Identifier: Apache-2.0
// Register-tiled products of small f32 matrices: the only place where attention's FLOPs happen.
//
// C[r][lane] (+)= sum over k of A(r, k) * B[k][lane]. Lanes are contiguous in B and C; elements of
// A are broadcast, so A is read as it lies, row-major or transposed, and is never packed. A
// register tile of kRows x kPanelVectors accumulators hides the FMA latency and needs (rows +
// vectors) loads for rows * vectors FMAs: below the load ports' limit on every AVX2 and AVX-512
// core. Included by the instruction-set sources only.
#pragma once

#include "espalier/backend/cpu/attention/prefetch.h"

namespace espalier::cpu {
namespace {

constexpr int kRows = kLanes == 16 ? 12 : 6;  // 24 of 32, or 12 of 16 registers accumulate

struct TileGemm {
  const float* a;
  int64_t lda;
  const float* b;
  int64_t ldb;
  float* c;
  int64_t ldc;
  int64_t depth;    // length of the sum
  bool accumulate;  // false: C is overwritten
  Prefetch* ahead;
};

/// A(r, k) = a[r * lda + k], or a[k * lda + r] if transposed.
template <int rows, int vectors, bool transposed>
ESPALIER_INLINE void register_tile(const TileGemm& g) {
  Vf acc[rows][vectors];
#pragma GCC unroll 24
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) {
      acc[r][v] = g.accumulate ? load(g.c + r * g.ldc + v * kLanes) : Vf{};
    }
  }
  g.ahead->step();
  const float* a = g.a;
  const float* b = g.b;
  const int64_t lda = g.lda;
  const int64_t ldb = g.ldb;
#pragma GCC unroll 2
  for (int64_t k = 0; k < g.depth; ++k) {
    Vf bv[vectors];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) bv[v] = load(b + v * kLanes);
#pragma GCC unroll 24
    for (int r = 0; r < rows; ++r) {
      const Vf av = splat(transposed ? a[r] : a[r * lda]);
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) acc[r][v] += av * bv[v];
    }
    a += transposed ? lda : 1;
    b += ldb;
  }
#pragma GCC unroll 24
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) store(g.c + r * g.ldc + v * kLanes, acc[r][v]);
  }
}

/// Rows of the largest register tile: as many accumulators for one vector as for two.
template <int vectors>
constexpr int kTileRows = kRows* kPanelVectors / vectors;

/// Rows of the next register tile when `left` remain: full tiles, the last two of equal height.
template <int vectors>
ESPALIER_INLINE int64_t tile_rows(int64_t left) {
  constexpr int64_t most = kTileRows<vectors>;
  if (left <= most) return left;
  return left < 2 * most ? (left + 1) / 2 : most;
}

/// One register tile of 1 to kTileRows rows.
template <int vectors, bool transposed, int rows = kTileRows<vectors>>
ESPALIER_INLINE void tile_gemm_rows(int64_t count, const TileGemm& g) {
  if constexpr (rows > 0) {
    if (count == rows) {
      register_tile<rows, vectors, transposed>(g);
    } else {
      tile_gemm_rows<vectors, transposed, rows - 1>(count, g);
    }
  }
}

/// `rows` rows by one panel of `vectors` vectors.
template <int vectors, bool transposed>
[[gnu::noinline]] void tile_gemm(int64_t rows, TileGemm g) {
  while (rows > 0) {
    const int64_t count = tile_rows<vectors>(rows);
    tile_gemm_rows<vectors, transposed>(count, g);
    g.a += transposed ? count : count * g.lda;
    g.c += count * g.ldc;
    rows -= count;
  }
}

}  // namespace
}  // namespace espalier::cpu
