// SPDX-License-Identifier: Apache-2.0
// Shapes: a list of sizes, with products checked against overflow.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "espalier/base/small_vector.h"

namespace espalier {

class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) : dims_(dims) {}
  explicit Shape(const std::vector<int64_t>& dims) : dims_(dims.begin(), dims.end()) {}

  int64_t rank() const { return static_cast<int64_t>(dims_.size()); }
  int64_t operator[](int64_t axis) const { return dims_[static_cast<size_t>(axis)]; }
  int64_t& operator[](int64_t axis) { return dims_[static_cast<size_t>(axis)]; }
  std::vector<int64_t> dims() const { return {dims_.begin(), dims_.end()}; }
  const int64_t* begin() const { return dims_.begin(); }
  const int64_t* end() const { return dims_.end(); }
  void push_back(int64_t size) { dims_.push_back(size); }

  /// Number of elements; throws `user` on negative sizes and on overflow of int64.
  int64_t numel() const;
  /// Row-major strides in elements.
  std::vector<int64_t> strides() const;
  /// "[2,3,4]"
  std::string str() const;

  friend bool operator==(const Shape&, const Shape&) = default;

 private:
  SmallVector<int64_t, 6> dims_;
};

}  // namespace espalier
