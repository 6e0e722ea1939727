// SPDX-License-Identifier: Apache-2.0
// exp, erf and GELU on eight floats, for the matmul's epilogue. Compiled into the files with vector
// flags only. Coefficients are least-squares fits on Chebyshev points, evaluated in f32; errors
// below were measured against double over the whole range.
#pragma once

#include <immintrin.h>

namespace espalier::cpu {
namespace {

inline __m256 set8(float x) { return _mm256_set1_ps(x); }

/// Value of the polynomial with coefficients c[0] + c[1] x + ... at x.
template <int N>
__m256 polynomial(const float (&c)[N], __m256 x) {
  __m256 sum = set8(c[N - 1]);
  for (int i = N - 2; i >= 0; --i) sum = _mm256_fmadd_ps(sum, x, set8(c[i]));
  return sum;
}

/// e^x within 2 units in the last place on [-87, 88]; clamped outside, NaN stays NaN.
inline __m256 exp8(__m256 x) {
  constexpr float kSeries[] = {0.5f, 0.16666576266288757f, 0.04166646674275398f,
                               0.008363179862499237f, 0.0013933649752289057f};
  // min/max return their second operand on NaN.
  x = _mm256_max_ps(set8(-87.0f), _mm256_min_ps(set8(88.0f), x));
  const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, set8(1.4426950408889634f)),
                                   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m256 r = _mm256_fnmadd_ps(n, set8(0.693359375f), x);
  r = _mm256_fnmadd_ps(n, set8(-2.12194440e-4f), r);
  const __m256 tail = _mm256_fmadd_ps(_mm256_mul_ps(r, r), polynomial(kSeries, r), r);
  const __m256i power =
      _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
  return _mm256_mul_ps(_mm256_add_ps(tail, set8(1.0f)), _mm256_castsi256_ps(power));
}

/// erf(x) within 2e-7.
inline __m256 erf8(__m256 x) {
  // |x| <= 1: x * small(x^2). Above: 1 - exp(-|x| * large(|x|)), which is 1 beyond 4.
  constexpr float kSmall[] = {1.1283791065216064f,   -0.3761262595653534f,  0.11283597350120544f,
                              -0.02685432881116867f, 0.005189312156289816f, -0.0008018855005502701f,
                              7.882497448008507e-05f};
  constexpr float kLarge[] = {1.1286054849624634f,      0.6353828310966492f,
                              0.10572159290313721f,     -0.023146718740463257f,
                              0.0032159402035176754f,   -0.00015101805911399424f,
                              -2.6024819817394018e-05f, 3.3585747587494552e-06f};
  const __m256 sign = _mm256_and_ps(x, set8(-0.0f));
  const __m256 size = _mm256_min_ps(set8(4.5f), _mm256_andnot_ps(set8(-0.0f), x));
  const __m256 small = _mm256_mul_ps(x, polynomial(kSmall, _mm256_mul_ps(x, x)));
  const __m256 power = _mm256_mul_ps(size, polynomial(kLarge, size));
  const __m256 large = _mm256_sub_ps(set8(1.0f), exp8(_mm256_xor_ps(power, set8(-0.0f))));
  const __m256 is_small = _mm256_cmp_ps(size, set8(1.0f), _CMP_LE_OQ);
  return _mm256_blendv_ps(_mm256_or_ps(large, sign), small, is_small);
}

/// x * Phi(x), Phi the normal distribution.
inline __m256 gelu_erf(__m256 x) {
  const __m256 half = _mm256_mul_ps(x, set8(0.5f));
  return _mm256_fmadd_ps(half, erf8(_mm256_mul_ps(x, set8(0.70710678118654752f))), half);
}

/// x * sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3): the tanh form of Hendrycks & Gimpel,
/// https://arxiv.org/abs/1606.08415
inline __m256 gelu_tanh(__m256 x) {
  const __m256 cubic = _mm256_fmadd_ps(_mm256_mul_ps(x, x), set8(0.044715f), set8(1.0f));
  const __m256 minus_2u =
      _mm256_mul_ps(_mm256_mul_ps(x, cubic), set8(-2.0f * 0.79788456080286536f));
  return _mm256_div_ps(x, _mm256_add_ps(set8(1.0f), exp8(minus_2u)));
}

}  // namespace
}  // namespace espalier::cpu
