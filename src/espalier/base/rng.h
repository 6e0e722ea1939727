// SPDX-License-Identifier: Apache-2.0
// Counter-based random numbers: a pure function of (seed, step, op id, element index).
//
// Nothing is drawn "next": the value at an index never depends on threads, tiles, fusion or
// recomputation. A 64-bit SplitMix finalizer (Steele, Lea, Flood 2014) turns (seed, stream) into
// two 32-bit key words; two rounds of a 32-bit xorshift-multiply hash over the index give the bits.
// The same few integer operations are emitted inside generated loops and attention tiles, so they
// are chosen to vectorize on AVX2: 32-bit multiplications, shifts, xor.
#pragma once

#include <cstdint>

namespace espalier {

/// Two key words of one random stream.
struct RngKey {
  uint32_t k0 = 0;
  uint32_t k1 = 0;
};

/// SplitMix64 finalizer: a bijection of 64-bit words.
constexpr uint64_t mix64(uint64_t z) {
  z += 0x9E3779B97F4A7C15ull;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

/// A bijection of 32-bit words (xorshift-multiply, two multiplications).
constexpr uint32_t mix32(uint32_t x) {
  x ^= x >> 16;
  x *= 0x7FEB352Du;
  x ^= x >> 15;
  x *= 0x846CA68Bu;
  x ^= x >> 16;
  return x;
}

/// Key of the stream of op `id` at `step` under `seed`.
constexpr RngKey rng_key(uint64_t seed, uint64_t step, uint64_t id) {
  const uint64_t z = mix64(mix64(mix64(seed) ^ step) ^ id);
  return {static_cast<uint32_t>(z), static_cast<uint32_t>(z >> 32)};
}

/// 32 random bits for element `index` of the stream.
constexpr uint32_t rng_bits(RngKey key, uint64_t index) {
  const uint32_t low = static_cast<uint32_t>(index);
  const uint32_t high = static_cast<uint32_t>(index >> 32);
  return mix32(mix32(low ^ key.k0) + key.k1 + high * 0x9E3779B9u);
}

/// Uniform in [0, 1) with 24 bits: exact in f32, so a comparison with a threshold has one meaning.
constexpr float rng_uniform(RngKey key, uint64_t index) {
  return static_cast<float>(rng_bits(key, index) >> 8) * 0x1p-24f;
}

}  // namespace espalier
