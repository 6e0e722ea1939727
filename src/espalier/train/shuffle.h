// SPDX-License-Identifier: Apache-2.0
// A random order of n things without storing it: element i of the order is computed alone.
//
// A Feistel network over the smallest even number of bits that holds n is a permutation of that
// range; values outside [0, n) are sent through it again until they fall inside (cycle walking,
// Black and Rogaway, CT-RSA 2002), at most 4 times on average.
#pragma once

#include <cstdint>

#include "espalier/base/rng.h"

namespace espalier::train {

class Shuffle {
 public:
  /// The order of [0, size), size >= 1, that `key` stands for.
  Shuffle(RngKey key, uint64_t size) : key_(key), size_(size) {
    while (half_bits_ < 32 && (uint64_t{1} << (2 * half_bits_)) < size) ++half_bits_;
  }

  uint64_t operator()(uint64_t index) const {
    do {
      index = permute(index);
    } while (index >= size_);
    return index;
  }

 private:
  static constexpr uint32_t kRounds = 6;

  uint64_t permute(uint64_t index) const {
    const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
    uint64_t left = index >> half_bits_;
    uint64_t right = index & mask;
    for (uint32_t round = 0; round < kRounds; ++round) {
      const RngKey key{key_.k0 ^ (round * 0x9E3779B9u), key_.k1};
      const uint64_t next = left ^ (rng_bits(key, right) & mask);
      left = right;
      right = next;
    }
    return (left << half_bits_) | right;
  }

  RngKey key_;
  uint64_t size_;
  uint32_t half_bits_ = 1;
};

}  // namespace espalier::train
