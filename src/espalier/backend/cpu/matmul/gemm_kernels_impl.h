// SPDX-License-Identifier: Apache-2.0
// Source of the inner loops, compiled once per instruction set by the gemm_kernels_*.cpp files.
// Everything is in an unnamed namespace and includes no inline code of other headers, so that no
// vector instruction leaks into code shared with older processors.
#pragma once

#include <immintrin.h>

#include "espalier/backend/cpu/matmul/gemm_kernels.h"
#include "espalier/backend/cpu/matmul/vector_math.h"

namespace espalier::cpu {
namespace {

template <int W>
struct Lanes {
  typedef float Vector __attribute__((vector_size(W * 4)));
  typedef float Unaligned __attribute__((vector_size(W * 4), aligned(4), may_alias));
};

/// C[MR, NV*W] = end(A[kc][MR] * B[kc][NV*W]). The multiply-adds are written as assembly because
/// the compiler otherwise renames accumulators between registers, at a cost of a fifth of the
/// speed.
template <int MR, int NV, int W>
void tile(int64_t kc, const float* a, const float* b, float* c, int64_t ldc, const TileEnd& end,
          TileFetch fetch) {
  using Vector = typename Lanes<W>::Vector;
  using Unaligned = typename Lanes<W>::Unaligned;
  constexpr int kUnroll = kFetchEvery;
  Vector sum[MR][NV] = {};
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < NV * W; j += 16) __builtin_prefetch(c + i * ldc + j, 1, 3);
  }
  const auto step = [&](int u) __attribute__((always_inline)) {
    Vector row[NV];
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) {
      row[j] = *reinterpret_cast<const Unaligned*>(b + (u * NV + j) * W);
    }
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i) {
      const Vector scale = a[u * MR + i] - Vector{};  // x - 0 is x for every x: a broadcast
#pragma GCC unroll 4
      for (int j = 0; j < NV; ++j) {
        asm("vfmadd231ps %2, %1, %0" : "+v"(sum[i][j]) : "v"(scale), "v"(row[j]));
      }
    }
  };
  const char* next = static_cast<const char*>(fetch.first);
  int64_t k = 0;
  for (; k + kUnroll <= kc; k += kUnroll) {
#pragma GCC unroll 8
    for (int u = 0; u < kUnroll; ++u) step(u);
    a += kUnroll * MR;
    b += kUnroll * NV * W;
    __builtin_prefetch(next, 0, 2);
    next += fetch.step;
  }
  for (; k < kc; ++k, a += MR, b += NV * W) step(0);
  // Plain loops with constant bounds: through a reference the sums would live in memory.
  if (end.accumulate) {
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < NV; ++j) {
        sum[i][j] = *reinterpret_cast<const Unaligned*>(c + i * ldc + j * W) + sum[i][j];
      }
    }
  }
  if (end.bias) {
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) {
      const Vector bias = *reinterpret_cast<const Unaligned*>(end.bias + j * W);
#pragma GCC unroll 16
      for (int i = 0; i < MR; ++i) sum[i][j] += bias;
    }
  }
  if (end.relu) {
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < NV; ++j) {
        sum[i][j] = sum[i][j] <= Vector{} ? Vector{} : sum[i][j];  // NaN stays
      }
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) {
      *reinterpret_cast<Unaligned*>(c + i * ldc + j * W) = sum[i][j];
    }
  }
}

struct F32 {
  using Type = float;
  static float one(const float* p) { return *p; }
  static __m256 load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, __m256 v) { _mm256_storeu_ps(p, v); }
};

struct Bf16 {
  using Type = uint16_t;
  static float one(const uint16_t* p) {
    return _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(static_cast<int>(uint32_t{*p} << 16))));
  }
  static __m256 load(const uint16_t* p) {
    const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
  }
  /// Round to nearest even; NaN stays NaN.
  static void store(uint16_t* p, __m256 v) {
    const __m256i bits = _mm256_castps_si256(v);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded =
        _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF)));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    const __m256i high = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, is_nan), 16);
    const __m128i packed =
        _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), packed);
  }
};

struct F16 {
  using Type = uint16_t;
  static float one(const uint16_t* p) { return _cvtsh_ss(*p); }
  static __m256 load(const uint16_t* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static void store(uint16_t* p, __m256 v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
  }
};

/// t[i][j] -> t[j][i]
inline void transpose8(__m256* t) {
  __m256 u[8];
  for (int i = 0; i < 4; ++i) {
    u[2 * i] = _mm256_unpacklo_ps(t[2 * i], t[2 * i + 1]);
    u[2 * i + 1] = _mm256_unpackhi_ps(t[2 * i], t[2 * i + 1]);
  }
  for (int i = 0; i < 2; ++i) {
    t[4 * i] = _mm256_shuffle_ps(u[4 * i], u[4 * i + 2], 0x44);
    t[4 * i + 1] = _mm256_shuffle_ps(u[4 * i], u[4 * i + 2], 0xEE);
    t[4 * i + 2] = _mm256_shuffle_ps(u[4 * i + 1], u[4 * i + 3], 0x44);
    t[4 * i + 3] = _mm256_shuffle_ps(u[4 * i + 1], u[4 * i + 3], 0xEE);
  }
  for (int i = 0; i < 4; ++i) {
    const __m256 low = t[i], high = t[i + 4];
    t[i] = _mm256_permute2f128_ps(low, high, 0x20);
    t[i + 4] = _mm256_permute2f128_ps(low, high, 0x31);
  }
}

template <typename F, int P>
void pack_scalar(const PackArgs& args, int64_t lane, int64_t count, int64_t first_k, float* dst) {
  const auto* src = static_cast<const typename F::Type*>(args.src) + lane * args.lane_stride;
  for (int64_t k = first_k; k < args.kc; ++k) {
    for (int64_t i = 0; i < P; ++i) {
      dst[k * P + i] = i < count ? F::one(src + i * args.lane_stride + k * args.k_stride) : 0.0f;
    }
  }
}

/// k is contiguous: 8 x 8 transposes, the next panel's rows prefetched. A store of 8 lanes may run
/// over the next k (or the spill room); what it overwrites there is written later.
template <typename F, int P>
void pack_panel_by_k(const PackArgs& args, int64_t lane, float* dst) {
  constexpr int kGroups = (P + 7) / 8;
  const auto* src = static_cast<const typename F::Type*>(args.src) + lane * args.lane_stride;
  const int64_t count = args.lanes - lane < P ? args.lanes - lane : P;
  const bool more = lane + 2 * P <= args.lanes;
  int64_t k = 0;
  for (; k + 8 <= args.kc; k += 8) {
    if (more && k % (64 / sizeof(*src)) == 0) {
      for (int i = 0; i < P; ++i) __builtin_prefetch(src + (P + i) * args.lane_stride + k, 0, 0);
    }
    __m256 block[kGroups][8];
    for (int g = 0; g < kGroups; ++g) {
      for (int i = 0; i < 8; ++i) {
        const int row = g * 8 + i;
        block[g][i] = row < P && row < count ? F::load(src + row * args.lane_stride + k)
                                             : _mm256_setzero_ps();
      }
      transpose8(block[g]);
    }
    for (int u = 0; u < 8; ++u) {
      for (int g = 0; g < kGroups; ++g) _mm256_storeu_ps(dst + (k + u) * P + g * 8, block[g][u]);
    }
  }
  pack_scalar<F, P>(args, lane, count, k, dst);
}

/// Lanes are contiguous: one panel's share of `kUnrolled<P>` steps of k.
template <typename F, int P>
void copy_steps(const typename F::Type* src, int64_t k_stride, float* out) {
  if constexpr (P == 6) {
    // Four rows of 6 make 3 whole vectors: loads that start early or late put each value in its
    // place, and no store crosses a cache line.
    const auto* r1 = src + k_stride;
    const auto* r2 = r1 + k_stride;
    const auto* r3 = r2 + k_stride;
    _mm256_store_ps(out, _mm256_blend_ps(F::load(src), F::load(r1 - 6), 0xC0));
    _mm256_store_ps(out + 8, _mm256_blend_ps(F::load(r1 + 2), F::load(r2 - 4), 0xF0));
    _mm256_store_ps(out + 16, _mm256_blend_ps(F::load(r2 + 4), F::load(r3 - 2), 0xFC));
  } else {
    // The last store may run over the next k (or the spill room), which is written later.
    for (int g = 0; g < (P + 7) / 8; ++g) _mm256_storeu_ps(out + g * 8, F::load(src + g * 8));
  }
}

/// Lanes are contiguous: copies, a few panels side by side so that reads run along rows. The
/// hardware does not foresee the jump to the next row: rows are prefetched.
template <typename F, int P>
void pack_by_lane(const PackArgs& args) {
  constexpr int64_t kSteps = P == 6 ? 4 : 1;
  constexpr int64_t kTogether = P == 6 ? 48 : (64 + P - 1) / P;
  constexpr int64_t kAhead = 8;
  constexpr int64_t kReach = P == 6 ? 12 : (P + 7) / 8 * 8;  // lanes read from a panel's first
  constexpr int64_t kLine = 64 / sizeof(typename F::Type);
  const auto* src = static_cast<const typename F::Type*>(args.src);
  // Reads of the last panels run over the end of their row: into the next row, which the last row
  // does not have. Panels of 6 also read up to 6 lanes early.
  const int64_t full = kReach > P && args.k_stride < kReach ? 0 : args.lanes / P;
  const int64_t inside = args.lanes < kReach ? 0 : (args.lanes - kReach) / P + 1;
  const int64_t whole = args.kc / kSteps * kSteps;
  const int64_t whole_over = (args.kc - 1) / kSteps * kSteps;
  for (int64_t first = 0; first < full; first += kTogether) {
    for (int64_t k = 0; k < whole; k += kSteps) {
      const auto* row = src + k * args.k_stride;
      int64_t last = k < whole_over || full < inside ? full : inside;
      if (last > first + kTogether) last = first + kTogether;
      for (int64_t u = 0; u < kSteps; ++u) {
        const auto* later = row + (kAhead + u) * args.k_stride;
        for (int64_t x = first * P; x < last * P; x += kLine) __builtin_prefetch(later + x, 0, 0);
      }
      for (int64_t p = first; p < last; ++p) {
        copy_steps<F, P>(row + p * P, args.k_stride, args.dst + p * args.panel_stride + k * P);
      }
    }
  }
  for (int64_t p = 0; p * P < args.lanes; ++p) {
    const int64_t count = args.lanes - p * P < P ? args.lanes - p * P : P;
    const int64_t done = p >= full ? 0 : p < inside ? whole : whole_over;
    pack_scalar<F, P>(args, p * P, count, done, args.dst + p * args.panel_stride);
  }
}

template <typename F, int P>
void pack_typed(const PackArgs& args) {
  if (args.lane_stride == 1) return pack_by_lane<F, P>(args);
  for (int64_t p = 0; p * P < args.lanes; ++p) {
    float* dst = args.dst + p * args.panel_stride;
    if (args.k_stride == 1) {
      pack_panel_by_k<F, P>(args, p * P, dst);
    } else {
      const int64_t count = args.lanes - p * P < P ? args.lanes - p * P : P;
      pack_scalar<F, P>(args, p * P, count, 0, dst);
    }
  }
}

template <int P>
void pack(const PackArgs& args) {
  switch (args.dtype) {
    case DType::bf16:
      return pack_typed<Bf16, P>(args);
    case DType::f16:
      return pack_typed<F16, P>(args);
    default:
      return pack_typed<F32, P>(args);
  }
}

inline __m256 activate(Activation activation, __m256 x) {
  switch (activation) {
    case Activation::relu: {
      // max(NaN, 0) would be 0: keep the NaN.
      const __m256 keep = _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_NLE_UQ);
      return _mm256_and_ps(keep, x);
    }
    case Activation::gelu_erf:
      return gelu_erf(x);
    case Activation::gelu_tanh:
      return gelu_tanh(x);
    case Activation::swiglu:  // of two values, see finish_gated
    case Activation::none:
      break;
  }
  return x;
}

/// Eight columns of a row, all of them there: `c` contiguous.
template <typename F>
void finish_eight(const FinishArgs& args, __m256 x, const float* bias, typename F::Type* c) {
  if (bias) x = _mm256_add_ps(x, _mm256_loadu_ps(bias));
  if (args.add_c) x = _mm256_add_ps(x, F::load(c));
  F::store(c, activate(args.activation, x));
}

template <typename F>
void finish_typed(const FinishArgs& args) {
  using Type = typename F::Type;
  const int64_t whole = args.col_stride == 1 ? args.cols / 8 * 8 : 0;
  for (int64_t r = 0; r < args.rows; ++r) {
    const float* acc = args.acc + r * args.acc_stride;
    Type* c = static_cast<Type*>(args.c) + r * args.row_stride;
    float row_bias[8];
    if (args.bias && args.bias_per_row) _mm256_storeu_ps(row_bias, _mm256_set1_ps(args.bias[r]));
    const auto bias_at = [&](int64_t j) {
      return !args.bias ? nullptr : args.bias_per_row ? row_bias : args.bias + j;
    };
    for (int64_t j = 0; j < whole; j += 8) {
      finish_eight<F>(args, _mm256_loadu_ps(acc + j), bias_at(j), c + j);
    }
    for (int64_t j = whole; j < args.cols; j += 8) {
      const int64_t count = args.cols - j < 8 ? args.cols - j : 8;
      float sums[8] = {}, shift[8] = {};
      Type values[8] = {};
      const float* bias = bias_at(j);
      for (int64_t i = 0; i < count; ++i) {
        sums[i] = acc[j + i];
        if (bias) shift[i] = bias[i];
        if (args.add_c) values[i] = c[(j + i) * args.col_stride];
      }
      finish_eight<F>(args, _mm256_loadu_ps(sums), bias ? shift : nullptr, values);
      for (int64_t i = 0; i < count; ++i) c[(j + i) * args.col_stride] = values[i];
    }
  }
}

/// silu(gate) * x; gates are clamped where e^-gate leaves f32.
inline __m256 swiglu(__m256 gate, __m256 x) {
  const __m256 below = exp8(_mm256_xor_ps(gate, set8(-0.0f)));
  return _mm256_mul_ps(_mm256_div_ps(gate, _mm256_add_ps(set8(1.0f), below)), x);
}

template <typename F>
void finish_gated(const FinishArgs& args) {
  using Type = typename F::Type;
  for (int64_t r = 0; r < args.rows; ++r) {
    const float* gate = args.acc + r * args.acc_stride;
    const float* x = args.second + r * args.acc_stride;
    Type* c = static_cast<Type*>(args.c) + r * args.row_stride;
    for (int64_t j = 0; j < args.cols; j += 8) {
      // The sums are there for whole panels, the columns of C may end before.
      const __m256 y = swiglu(_mm256_loadu_ps(gate + j), _mm256_loadu_ps(x + j));
      if (args.col_stride == 1 && j + 8 <= args.cols) {
        F::store(c + j, y);
        continue;
      }
      Type values[8];
      F::store(values, y);
      for (int64_t i = 0; i < 8 && j + i < args.cols; ++i) c[(j + i) * args.col_stride] = values[i];
    }
  }
}

inline void finish(const FinishArgs& args) {
  if (args.second) {
    switch (args.dtype) {
      case DType::bf16:
        return finish_gated<Bf16>(args);
      case DType::f16:
        return finish_gated<F16>(args);
      default:
        return finish_gated<F32>(args);
    }
  }
  switch (args.dtype) {
    case DType::bf16:
      return finish_typed<Bf16>(args);
    case DType::f16:
      return finish_typed<F16>(args);
    default:
      return finish_typed<F32>(args);
  }
}

template <typename F>
void narrow_typed(const float* src, int64_t count, uint16_t* dst) {
  for (int64_t i = 0; i < count; i += 8) F::store(dst + i, _mm256_loadu_ps(src + i));
}

inline void narrow(const float* src, DType dtype, int64_t count, uint16_t* dst) {
  return dtype == DType::bf16 ? narrow_typed<Bf16>(src, count, dst)
                              : narrow_typed<F16>(src, count, dst);
}

template <typename F>
void widen_typed(const uint16_t* src, int64_t count, float* dst) {
  for (int64_t i = 0; i < count; i += 8) _mm256_storeu_ps(dst + i, F::load(src + i));
}

inline void widen(const uint16_t* src, DType dtype, int64_t count, float* dst) {
  return dtype == DType::bf16 ? widen_typed<Bf16>(src, count, dst)
                              : widen_typed<F16>(src, count, dst);
}

}  // namespace
}  // namespace espalier::cpu
