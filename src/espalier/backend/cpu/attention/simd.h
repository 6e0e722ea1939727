// SPDX-License-Identifier: Apache-2.0
// Vectors of kLanes floats for the attention tiles, on GCC's vector extensions: one source for AVX2
// (8 lanes) and AVX-512 (16 lanes).
//
// Included by the instruction-set sources only. Everything is in an unnamed namespace, so that code
// compiled for a newer processor can never be linked in where an older one runs.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "espalier/backend/cpu/attention/tasks.h"

#ifndef ESPALIER_ATTENTION_LANES
#error "define ESPALIER_ATTENTION_LANES (8 or 16) before including this header"
#endif

#define ESPALIER_INLINE [[gnu::always_inline]] inline

namespace espalier::cpu {
namespace {

constexpr int kLanes = ESPALIER_ATTENTION_LANES;
constexpr int kPanelVectors = 2;
constexpr int kPanel = kPanelVectors * kLanes;  // queries side by side in one register tile

typedef float Vf __attribute__((vector_size(kLanes * 4)));
typedef int32_t Vi __attribute__((vector_size(kLanes * 4)));
typedef uint32_t Vu __attribute__((vector_size(kLanes * 4)));
typedef uint16_t Vh __attribute__((vector_size(kLanes * 2)));

constexpr float kInfinity = __builtin_inff();

ESPALIER_INLINE int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
ESPALIER_INLINE int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

template <typename V, typename T>
ESPALIER_INLINE V load_as(const T* p) {
  V v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
ESPALIER_INLINE Vf load(const float* p) { return load_as<Vf>(p); }
template <typename V, typename T>
ESPALIER_INLINE void store(T* p, V v) {
  std::memcpy(p, &v, sizeof v);
}
ESPALIER_INLINE Vf splat(float x) { return x - Vf{}; }  // x - 0 is x, -0 included
ESPALIER_INLINE Vi lane_index() {
  Vi v;
  for (int e = 0; e < kLanes; ++e) v[e] = e;
  return v;
}
ESPALIER_INLINE Vf select(Vi mask, Vf yes, Vf no) { return mask ? yes : no; }

/// max(a, b); b where either is NaN.
ESPALIER_INLINE Vf max(Vf a, Vf b) { return a > b ? a : b; }

ESPALIER_INLINE bool any(Vi mask) {
  uint64_t words[kLanes / 2];
  std::memcpy(words, &mask, sizeof mask);
  uint64_t bits = 0;
  for (uint64_t w : words) bits |= w;
  return bits != 0;
}

/// 2^x within 1 ulp; exactly 1 at 0, exactly 0 below -126, NaN for NaN. For x <= 127.
/// x = n + f with |f| <= 1/2; 2^f by a degree 6 polynomial (minimax of the relative error, 2.6e-9);
/// adding 1.5 * 2^23 leaves n in the low bits, ready to be added to the exponent.
ESPALIER_INLINE Vf exp2(Vf x) {
  const Vf shifted = x + 0x1.8p23f;
  const Vf f = x - (shifted - 0x1.8p23f);
  Vf p = splat(0x1.470b4ap-13f);
  p = p * f + 0x1.5f7276p-10f;
  p = p * f + 0x1.3b270ep-7f;
  p = p * f + 0x1.c6ae72p-5f;
  p = p * f + 0x1.ebfbe2p-3f;
  p = p * f + 0x1.62e432p-1f;
  p = p * f + 1.0f;
  const Vi bits = reinterpret_cast<Vi>(p) + (reinterpret_cast<Vi>(shifted) << 23);
  return reinterpret_cast<Vf>(bits & ~(x < -126.0f));
}

/// Natural logarithm within 2 ulp for normal x > 0 (Cephes logf: x = 2^n m, m in [sqrt(1/2), sqrt
/// 2)).
ESPALIER_INLINE Vf log(Vf x) {
  const Vi bits = reinterpret_cast<Vi>(x) - 0x3F3504F3;
  const Vf n = __builtin_convertvector(bits >> 23, Vf);
  const Vf f = reinterpret_cast<Vf>((bits & 0x007FFFFF) + 0x3F3504F3) - 1.0f;
  Vf p = splat(7.0376836292e-2f);
  p = p * f - 1.1514610310e-1f;
  p = p * f + 1.1676998740e-1f;
  p = p * f - 1.2420140846e-1f;
  p = p * f + 1.4249322787e-1f;
  p = p * f - 1.6668057665e-1f;
  p = p * f + 2.0000714765e-1f;
  p = p * f - 2.4999993993e-1f;
  p = p * f + 3.3333331174e-1f;
  const Vf square = f * f;
  p = p * f * square;
  p = p + n * -2.12194440e-4f;
  p = p - 0.5f * square;
  return n * 0.693359375f + (f + p);
}

struct Bf16 {
  uint16_t bits;
};
struct F16 {
  uint16_t bits;
};

ESPALIER_INLINE Vf load(const Bf16* p) {
  return reinterpret_cast<Vf>(__builtin_convertvector(load_as<Vh>(p), Vu) << 16);
}
ESPALIER_INLINE void store(Bf16* p, Vf v) {  // round to nearest even; NaN stays NaN
  const Vu bits = reinterpret_cast<Vu>(v);
  const Vu rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
  const Vu quiet = (bits >> 16) | 0x40u;
  store(p, __builtin_convertvector(v == v ? rounded : quiet, Vh));
}
ESPALIER_INLINE Vf load(const F16* p) {
  Vf v;
  for (int half = 0; half < kLanes; half += 8) {
    const __m256 part =
        _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + half)));
    std::memcpy(reinterpret_cast<float*>(&v) + half, &part, sizeof part);
  }
  return v;
}
ESPALIER_INLINE void store(F16* p, Vf v) {
  for (int half = 0; half < kLanes; half += 8) {
    __m256 part;
    std::memcpy(&part, reinterpret_cast<const float*>(&v) + half, sizeof part);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p + half),
                     _mm256_cvtps_ph(part, _MM_FROUND_TO_NEAREST_INT));
  }
}

/// The first n elements; zeros after them.
template <typename T>
ESPALIER_INLINE Vf load_first(const T* p, int64_t n) {
  if (n >= kLanes) return load(p);
  T buffer[kLanes] = {};
  for (int64_t e = 0; e < n; ++e) buffer[e] = p[e];
  return load(buffer);
}
template <typename T>
ESPALIER_INLINE void store_first(T* p, Vf v, int64_t n) {
  if (n >= kLanes) {
    store(p, v);
    return;
  }
  T buffer[kLanes];
  store(buffer, v);
  for (int64_t e = 0; e < n; ++e) p[e] = buffer[e];
}

/// Calls f with a typed pointer to the elements of `data`.
template <typename F>
ESPALIER_INLINE void with_type(DType dtype, const void* data, F f) {
  if (dtype == DType::bf16) {
    f(static_cast<const Bf16*>(data));
  } else if (dtype == DType::f16) {
    f(static_cast<const F16*>(data));
  } else {
    f(static_cast<const float*>(data));
  }
}
template <typename F>
ESPALIER_INLINE void with_type(DType dtype, void* data, F f) {
  with_type(dtype, const_cast<const void*>(data),
            [&]<typename T>(const T* p) { f(const_cast<T*>(p)); });
}

/// shuffle(a, b, f): element e is element f(e) of the 2 * kLanes elements of a and b.
template <typename F>
ESPALIER_INLINE Vf shuffle(Vf a, Vf b, F source) {
  Vi index;
  for (int e = 0; e < kLanes; ++e) index[e] = source(e);
#if __has_builtin(__builtin_shuffle)
  return __builtin_shuffle(a, b, index);
#else  // not in clang, which finds the instruction in this
  Vf result;
  for (int e = 0; e < kLanes; ++e)
    result[e] = index[e] < kLanes ? a[index[e]] : b[index[e] - kLanes];
  return result;
#endif
}

/// Swaps the off-diagonal groups of `step` lanes between v[i] and v[i + step].
template <int step>
ESPALIER_INLINE void exchange_groups(Vf (&v)[kLanes]) {
  for (int i = 0; i < kLanes; ++i) {
    if (i & step) continue;
    const Vf a = v[i], b = v[i + step];
    v[i] = shuffle(a, b, [](int e) { return (e & step) ? kLanes + e - step : e; });
    v[i + step] = shuffle(a, b, [](int e) { return (e & step) ? kLanes + e : e + step; });
  }
}

/// In place: element e of v[i] and element i of v[e] change places. Blocks of 4 x 4 within 128-bit
/// groups first, one instruction a vector and step (unpack), then whole groups.
ESPALIER_INLINE void transpose(Vf (&v)[kLanes]) {
  constexpr auto unpack = [](int e, int width, int half) {
    const int group = e / 4 * 4, in = e % 4;
    return group + half * 2 + in / (2 * width) * width + in % width + (in / width % 2) * kLanes;
  };
  for (int i = 0; i < kLanes; i += 4) {
    Vf t[4];
    for (int x = 0; x < 2; ++x) {
      for (int half = 0; half < 2; ++half) {
        t[2 * x + half] =
            shuffle(v[i + 2 * x], v[i + 2 * x + 1], [=](int e) { return unpack(e, 1, half); });
      }
    }
    for (int half = 0; half < 2; ++half) {
      v[i + half] = shuffle(t[0], t[2], [=](int e) { return unpack(e, 2, half); });
      v[i + 2 + half] = shuffle(t[1], t[3], [=](int e) { return unpack(e, 2, half); });
    }
  }
  exchange_groups<4>(v);
  if constexpr (kLanes == 16) exchange_groups<8>(v);
}

}  // namespace
}  // namespace espalier::cpu
