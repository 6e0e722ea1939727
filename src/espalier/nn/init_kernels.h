// SPDX-License-Identifier: Apache-2.0
// What init.cpp and its vector code share: the constants, and one value at a time as plain code.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>

#include "espalier/base/rng.h"
#include "espalier/nn/init.h"

namespace espalier::nn::detail {

// log(1 + m) = m - m^2/2 + m^3 P(m) for 1 + m in [sqrt(1/2), sqrt 2) (Cephes, logf).
inline constexpr std::array<float, 9> kLog{3.3333331174e-1f,  -2.4999993993e-1f, 2.0000714765e-1f,
                                           -1.6668057665e-1f, 1.4249322787e-1f,  -1.2420140846e-1f,
                                           1.1676998740e-1f,  -1.1514610310e-1f, 7.0376836292e-2f};
// M. Giles, "Approximating the erfinv function", GPU Computing Gems 2 (2010), single precision:
// erfinv(v) / v as a function of w = -log(1 - v^2), in w - 2.5 for w < 5 and in sqrt(w) - 3 beyond.
inline constexpr std::array<float, 9> kCentral{1.50140941f,     0.246640727f,    -0.00417768164f,
                                               -0.00125372503f, 0.00021858087f,  -4.39150654e-06f,
                                               -3.5233877e-06f, 3.43273939e-07f, 2.81022636e-08f};
inline constexpr std::array<float, 9> kTail{2.83297682f,    1.00167406f,     0.00943887047f,
                                            -0.0076224613f, 0.00573950773f,  -0.00367342844f,
                                            0.00134934322f, 0.000100950558f, -0.000200214257f};

/// Probability mass of a normal within two deviations.
inline constexpr float kTruncatedMass = 0.954499736f;

/// A run of values whose indices share their high half.
struct Block {
  Init::Kind kind;
  float scale;
  RngKey key;
  uint32_t low;        // index of the first value, low half
  uint32_t high_term;  // what the high half adds

  float mass() const { return kind == Init::Kind::truncated_normal ? kTruncatedMass : 1.0f; }
};

/// An odd multiple of 2^-24 in (-1, 1), exact in f32, symmetric around 0.
[[gnu::always_inline]] inline float symmetric(RngKey key, uint32_t low, uint32_t high_term) {
  const uint32_t bits = mix32(mix32(low ^ key.k0) + key.k1 + high_term);
  const auto centered = static_cast<int32_t>(bits >> 8) - (1 << 23);
  return (static_cast<float>(centered) + 0.5f) * 0x1p-23f;
}

/// c[0] + c[1] x + ... + c[8] x^8 in Estrin's order: a short chain of dependent operations, so that
/// the next values of a loop start early.
[[gnu::always_inline]] inline float polynomial(const std::array<float, 9>& c, float x) {
  const float x2 = x * x;
  const float x4 = x2 * x2;
  const float low = std::fma(std::fma(c[3], x, c[2]), x2, std::fma(c[1], x, c[0]));
  const float high = std::fma(std::fma(c[7], x, c[6]), x2, std::fma(c[5], x, c[4]));
  return std::fma(std::fma(c[8], x4, high), x4, low);
}

/// Natural logarithm of a normal positive float, error below 2 ulp where the result is not near 0.
[[gnu::always_inline]] inline float log_of(float x) {
  const auto bits = std::bit_cast<int32_t>(x);
  const int32_t exponent = (bits - 0x3F3504F3) >> 23;
  const float m = std::bit_cast<float>(bits - exponent * (1 << 23)) - 1.0f;
  const float z = m * m;
  const auto e = static_cast<float>(exponent);
  const float tail = std::fma(polynomial(kLog, m), m * z, std::fma(-0.5f, z, m));
  return std::fma(e, 0.69314718f, tail);
}

/// sqrt(2) times the inverse error function: the normal quantile of (1 + v) / 2, |v| < 1. Both
/// branches are computed and one is kept, so that loops around this vectorize.
[[gnu::always_inline]] inline float normal_quantile(float v) {
  const float w = -log_of((1.0f - v) * (1.0f + v));
  const float central = polynomial(kCentral, w - 2.5f);
  const float tail = polynomial(kTail, std::sqrt(std::max(w, 0.0f)) - 3.0f);
  return (w < 5.0f ? central : tail) * (v * 1.41421356f);
}

/// The values of a block as baseline code computes them; the measure of all vector code.
void fill_block_baseline(const Block& block, float* values, int64_t count);
/// Normals and truncated normals, as many whole vectors as fit; returns how many. Needs AVX2, FMA.
int64_t fill_normals_avx2(const Block& block, float* values, int64_t count);

}  // namespace espalier::nn::detail
