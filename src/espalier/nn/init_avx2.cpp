// SPDX-License-Identifier: Apache-2.0
// Normal initial values with AVX2 and FMA: the operations of init.cpp, in the same order, so the
// values are the same bits. The tail of the quantile, which one value in 300 needs, is left out for
// the groups of 16 that do not need it.
#include "espalier/nn/init_kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

namespace espalier::nn::detail {
namespace {

struct Pair {
  __m256 a, b;
};

inline __m256i mix32(__m256i x) {
  x = _mm256_xor_si256(x, _mm256_srli_epi32(x, 16));
  x = _mm256_mullo_epi32(x, _mm256_set1_epi32(0x7FEB352D));
  x = _mm256_xor_si256(x, _mm256_srli_epi32(x, 15));
  x = _mm256_mullo_epi32(x, _mm256_set1_epi32(static_cast<int>(0x846CA68Bu)));
  return _mm256_xor_si256(x, _mm256_srli_epi32(x, 16));
}

/// See symmetric() in init_kernels.h.
inline __m256 symmetric(__m256i index, __m256i k0, __m256i k1) {
  const __m256i bits = mix32(_mm256_add_epi32(mix32(_mm256_xor_si256(index, k0)), k1));
  const __m256i centered = _mm256_sub_epi32(_mm256_srli_epi32(bits, 8), _mm256_set1_epi32(1 << 23));
  return _mm256_mul_ps(_mm256_add_ps(_mm256_cvtepi32_ps(centered), _mm256_set1_ps(0.5f)),
                       _mm256_set1_ps(0x1p-23f));
}

inline __m256 polynomial(const std::array<float, 9>& c, __m256 x) {
  const auto k = [&](size_t i) { return _mm256_set1_ps(c[i]); };
  const __m256 x2 = _mm256_mul_ps(x, x);
  const __m256 x4 = _mm256_mul_ps(x2, x2);
  const __m256 low =
      _mm256_fmadd_ps(_mm256_fmadd_ps(k(3), x, k(2)), x2, _mm256_fmadd_ps(k(1), x, k(0)));
  const __m256 high =
      _mm256_fmadd_ps(_mm256_fmadd_ps(k(7), x, k(6)), x2, _mm256_fmadd_ps(k(5), x, k(4)));
  return _mm256_fmadd_ps(_mm256_fmadd_ps(k(8), x4, high), x4, low);
}

/// -log(x); see log_of().
inline __m256 minus_log(__m256 x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i exponent =
      _mm256_srai_epi32(_mm256_sub_epi32(bits, _mm256_set1_epi32(0x3F3504F3)), 23);
  const __m256 m =
      _mm256_sub_ps(_mm256_castsi256_ps(_mm256_sub_epi32(bits, _mm256_slli_epi32(exponent, 23))),
                    _mm256_set1_ps(1.0f));
  const __m256 z = _mm256_mul_ps(m, m);
  const __m256 tail = _mm256_fmadd_ps(polynomial(kLog, m), _mm256_mul_ps(m, z),
                                      _mm256_fmadd_ps(_mm256_set1_ps(-0.5f), z, m));
  const __m256 log =
      _mm256_fmadd_ps(_mm256_cvtepi32_ps(exponent), _mm256_set1_ps(0.69314718f), tail);
  return _mm256_xor_ps(log, _mm256_set1_ps(-0.0f));
}

/// -log(1 - v^2), what the quantile is a function of.
inline __m256 depth(__m256 v) {
  const __m256 one = _mm256_set1_ps(1.0f);
  return minus_log(_mm256_mul_ps(_mm256_sub_ps(one, v), _mm256_add_ps(one, v)));
}

inline __m256 central(__m256 w) {
  return polynomial(kCentral, _mm256_sub_ps(w, _mm256_set1_ps(2.5f)));
}

/// `middle` where w < 5, else the tail's polynomial.
[[gnu::noinline]] __m256 with_tail(__m256 w, __m256 middle) {
  const __m256 tail = polynomial(
      kTail,
      _mm256_sub_ps(_mm256_sqrt_ps(_mm256_max_ps(w, _mm256_setzero_ps())), _mm256_set1_ps(3.0f)));
  return _mm256_blendv_ps(tail, middle, _mm256_cmp_ps(w, _mm256_set1_ps(5.0f), _CMP_LT_OQ));
}

inline Pair normals(Pair v) {
  const Pair w{depth(v.a), depth(v.b)};
  Pair p{central(w.a), central(w.b)};
  const __m256 five = _mm256_set1_ps(5.0f);
  const __m256 deep = _mm256_cmp_ps(_mm256_max_ps(w.a, w.b), five, _CMP_GE_OQ);
  if (_mm256_movemask_ps(deep) != 0) p = {with_tail(w.a, p.a), with_tail(w.b, p.b)};
  const __m256 root2 = _mm256_set1_ps(1.41421356f);
  return {_mm256_mul_ps(p.a, _mm256_mul_ps(v.a, root2)),
          _mm256_mul_ps(p.b, _mm256_mul_ps(v.b, root2))};
}

}  // namespace

int64_t fill_normals_avx2(const Block& block, float* values, int64_t count) {
  const __m256i k0 = _mm256_set1_epi32(static_cast<int>(block.key.k0));
  const __m256i k1 = _mm256_set1_epi32(static_cast<int>(block.key.k1 + block.high_term));
  const __m256 scale = _mm256_set1_ps(block.scale);
  const __m256 mass = _mm256_set1_ps(block.mass());
  const __m256i eight = _mm256_set1_epi32(8);
  __m256i index = _mm256_add_epi32(_mm256_set1_epi32(static_cast<int>(block.low)),
                                   _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const __m256i next = _mm256_add_epi32(index, eight);
    const Pair v{_mm256_mul_ps(mass, symmetric(index, k0, k1)),
                 _mm256_mul_ps(mass, symmetric(next, k0, k1))};
    const Pair n = normals(v);
    _mm256_storeu_ps(values + i, _mm256_mul_ps(scale, n.a));
    _mm256_storeu_ps(values + i + 8, _mm256_mul_ps(scale, n.b));
    index = _mm256_add_epi32(next, eight);
  }
  return i;
}

}  // namespace espalier::nn::detail

#endif
