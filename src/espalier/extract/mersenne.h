// SPDX-License-Identifier: Apache-2.0
// The random sequences of Python's `random` and of NumPy's legacy generator, so that prompts of a
// seed are the ones that programs in Python make. Both are MT19937 (Matsumoto and Nishimura, 1998)
// and differ in how a seed is spread and how integers are drawn.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace espalier::extract {

class Mersenne {
 public:
  /// init_genrand: one 32-bit seed.
  explicit Mersenne(uint32_t seed);
  /// init_by_array: a seed of several words.
  explicit Mersenne(const std::vector<uint32_t>& key);
  uint32_t next();

 private:
  static constexpr size_t kSize = 624;
  void twist();
  std::array<uint32_t, kSize> state_;
  size_t at_ = kSize;
};

/// random.seed(seed), random.random(), random.shuffle(values).
class PythonRandom {
 public:
  explicit PythonRandom(uint64_t seed);
  /// In [0, 1), 53 bits.
  double uniform();
  template <typename T>
  void shuffle(std::vector<T>& values) {
    for (size_t i = values.size(); i-- > 1;) std::swap(values[i], values[below(i + 1)]);
  }

 private:
  /// Below n, which is at least 1 and less than 2^32.
  size_t below(size_t n);
  Mersenne bits_;
};

/// np.random.seed(seed), np.random.permutation(n).
class NumpyRandom {
 public:
  explicit NumpyRandom(uint32_t seed) : bits_(seed) {}
  std::vector<int64_t> permutation(int64_t n);

 private:
  Mersenne bits_;
};

}  // namespace espalier::extract
