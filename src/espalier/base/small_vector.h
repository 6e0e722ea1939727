// SPDX-License-Identifier: Apache-2.0
// A list of plain values whose first N need no allocation. Shapes are made and copied by the
// hundred thousand while a graph is compiled, and nearly all are short.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <initializer_list>
#include <type_traits>
#include <vector>

namespace espalier {

template <typename T, size_t N>
class SmallVector {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  using value_type = T;

  SmallVector() = default;
  SmallVector(std::initializer_list<T> values) { assign(values.begin(), values.end()); }
  template <typename It>
  SmallVector(It first, It last) {
    assign(first, last);
  }
  // Copied even where it could be moved: then no list is left without its values.
  SmallVector(const SmallVector&) = default;
  SmallVector& operator=(const SmallVector&) = default;

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  const T* begin() const { return size_ > N ? long_.data() : short_.data(); }
  const T* end() const { return begin() + size_; }
  T* begin() { return size_ > N ? long_.data() : short_.data(); }
  T* end() { return begin() + size_; }
  const T& operator[](size_t i) const { return begin()[i]; }
  T& operator[](size_t i) { return begin()[i]; }

  void push_back(T value) {
    if (size_ == N) long_.assign(short_.begin(), short_.end());
    if (size_ >= N) {
      long_.push_back(value);
    } else {
      short_[size_] = value;
    }
    ++size_;
  }

  friend bool operator==(const SmallVector& a, const SmallVector& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end());
  }

 private:
  template <typename It>
  void assign(It first, It last) {
    for (; first != last; ++first) push_back(*first);
  }

  size_t size_ = 0;
  std::array<T, N> short_{};
  std::vector<T> long_;  // all values, when there are more than N
};

}  // namespace espalier
