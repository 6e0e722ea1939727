// SPDX-License-Identifier: Apache-2.0
// Conversions with AVX2 and F16C.
#include "espalier/tensor/convert_kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include <algorithm>

#include "espalier/tensor/dtype.h"

namespace espalier::detail {
namespace {

constexpr int64_t kLanes = 8;

__m256i load(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }

/// Eight values rounded to bf16, each in the low half of its 32 bits.
__m256i round_bf16(__m256i bits) {
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_srli_epi32(
      _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF))), 16);
  const __m256i quiet = _mm256_or_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(0x40));
  const __m256i magnitude = _mm256_and_si256(bits, _mm256_set1_epi32(0x7FFFFFFF));
  const __m256i nan = _mm256_cmpgt_epi32(magnitude, _mm256_set1_epi32(0x7F800000));
  return _mm256_blendv_epi8(rounded, quiet, nan);
}

void to_bf16_avx2(const float* from, int64_t count, uint16_t* to) {
  int64_t i = 0;
  for (; i + 2 * kLanes <= count; i += 2 * kLanes) {
    const __m256i packed =
        _mm256_packus_epi32(round_bf16(load(from + i)), round_bf16(load(from + i + kLanes)));
    // The packing works in each half of the registers.
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i),
                        _mm256_permute4x64_epi64(packed, 0b11011000));
  }
  for (; i < count; ++i) to[i] = to_bf16(from[i]);
}

/// NaN becomes the one of the baseline.
__m128i round_f16(__m256 values) {
  const __m256 one_nan = _mm256_or_ps(_mm256_and_ps(values, _mm256_set1_ps(-0.0f)),
                                      _mm256_castsi256_ps(_mm256_set1_epi32(0x7FC00000)));
  const __m256 nan = _mm256_cmp_ps(values, values, _CMP_UNORD_Q);
  return _mm256_cvtps_ph(_mm256_blendv_ps(values, one_nan, nan), _MM_FROUND_TO_NEAREST_INT);
}

void to_f16_avx2(const float* from, int64_t count, uint16_t* to) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), round_f16(_mm256_loadu_ps(from + i)));
  }
  for (; i < count; ++i) to[i] = to_f16(from[i]);
}

void from_bf16_avx2(const uint16_t* from, int64_t count, float* to) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i));
    _mm256_storeu_ps(to + i,
                     _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16)));
  }
  for (; i < count; ++i) to[i] = from_bf16(from[i]);
}

void from_f16_avx2(const uint16_t* from, int64_t count, float* to) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i));
    _mm256_storeu_ps(to + i, _mm256_cvtph_ps(bits));
  }
  for (; i < count; ++i) to[i] = from_f16(from[i]);
}

// The counters of a block fit the elements' own width, so that the loops stay whole registers wide.
int64_t count16_avx2(const uint16_t* values, int64_t count, uint16_t exponent) {
  int64_t total = 0;
  for (int64_t begin = 0; begin < count;) {
    const int64_t end = std::min(count, begin + INT16_MAX);
    uint16_t found = 0;
    for (; begin < end; ++begin) {
      found = static_cast<uint16_t>(found + ((values[begin] & exponent) == exponent ? 1 : 0));
    }
    total += found;
  }
  return total;
}

int64_t count32_avx2(const uint32_t* values, int64_t count, uint32_t exponent) {
  int64_t total = 0;
  for (int64_t begin = 0; begin < count;) {
    const int64_t end = std::min<int64_t>(count, begin + INT16_MAX);
    uint32_t found = 0;
    for (; begin < end; ++begin) found += (values[begin] & exponent) == exponent ? 1u : 0u;
    total += found;
  }
  return total;
}

}  // namespace

const ConvertKernels kConvertAvx2{to_bf16_avx2,  to_f16_avx2,  from_bf16_avx2,
                                  from_f16_avx2, count16_avx2, count32_avx2};

}  // namespace espalier::detail
#endif
