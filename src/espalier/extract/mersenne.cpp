// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/mersenne.h"

#include <algorithm>
#include <bit>
#include <numeric>

namespace espalier::extract {
namespace {

std::vector<uint32_t> words_of(uint64_t seed) {
  std::vector<uint32_t> words{static_cast<uint32_t>(seed)};
  if (seed >> 32 != 0) words.push_back(static_cast<uint32_t>(seed >> 32));
  return words;
}

}  // namespace

Mersenne::Mersenne(uint32_t seed) {
  state_[0] = seed;
  for (uint32_t i = 1; i < kSize; ++i) {
    state_[i] = 1812433253u * (state_[i - 1] ^ (state_[i - 1] >> 30)) + i;
  }
}

Mersenne::Mersenne(const std::vector<uint32_t>& key) : Mersenne(19650218u) {
  size_t i = 1, j = 0;
  const auto advance = [&] {
    if (++i < kSize) return;
    state_[0] = state_[kSize - 1];
    i = 1;
  };
  for (size_t k = std::max(kSize, key.size()); k > 0; --k) {
    state_[i] = (state_[i] ^ ((state_[i - 1] ^ (state_[i - 1] >> 30)) * 1664525u)) + key[j] +
                static_cast<uint32_t>(j);
    advance();
    if (++j == key.size()) j = 0;
  }
  for (size_t k = kSize - 1; k > 0; --k) {
    state_[i] = (state_[i] ^ ((state_[i - 1] ^ (state_[i - 1] >> 30)) * 1566083941u)) -
                static_cast<uint32_t>(i);
    advance();
  }
  state_[0] = 0x80000000u;
}

void Mersenne::twist() {
  for (size_t i = 0; i < kSize; ++i) {
    const uint32_t y = (state_[i] & 0x80000000u) | (state_[(i + 1) % kSize] & 0x7fffffffu);
    state_[i] = state_[(i + 397) % kSize] ^ (y >> 1) ^ ((y & 1u) != 0 ? 0x9908b0dfu : 0u);
  }
  at_ = 0;
}

uint32_t Mersenne::next() {
  if (at_ == kSize) twist();
  uint32_t y = state_[at_++];
  y ^= y >> 11;
  y ^= (y << 7) & 0x9d2c5680u;
  y ^= (y << 15) & 0xefc60000u;
  return y ^ (y >> 18);
}

PythonRandom::PythonRandom(uint64_t seed) : bits_(words_of(seed)) {}

double PythonRandom::uniform() {
  const uint32_t high = bits_.next() >> 5, low = bits_.next() >> 6;
  return (static_cast<double>(high) * 67108864.0 + static_cast<double>(low)) * 0x1p-53;
}

size_t PythonRandom::below(size_t n) {
  const int width = std::bit_width(n);
  size_t drawn = n;
  while (drawn >= n) drawn = bits_.next() >> (32 - width);
  return drawn;
}

std::vector<int64_t> NumpyRandom::permutation(int64_t n) {
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  for (size_t i = order.size(); i-- > 1;) {
    const auto mask = static_cast<uint32_t>(std::bit_ceil(i + 1) - 1);
    uint32_t drawn = bits_.next() & mask;
    while (drawn > i) drawn = bits_.next() & mask;
    std::swap(order[i], order[drawn]);
  }
  return order;
}

}  // namespace espalier::extract
