// SPDX-License-Identifier: Apache-2.0
// A dense row-major array in host memory. Copies share the storage.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "espalier/tensor/dtype.h"
#include "espalier/tensor/shape.h"

namespace espalier {

class HostTensor {
 public:
  HostTensor() = default;
  /// Zero-filled, 64-byte aligned. Throws `device` when memory cannot be had.
  HostTensor(DType dtype, Shape shape);
  /// A view of memory that `owner` keeps alive (a mapped file, an arena).
  HostTensor(DType dtype, Shape shape, void* data, std::shared_ptr<void> owner);

  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  int64_t numel() const { return numel_; }
  int64_t bytes() const { return numel_ * size_of(dtype_); }
  bool defined() const { return data_ != nullptr; }

  void* data() { return data_; }
  const void* data() const { return data_; }
  template <typename T>
  std::span<T> as() {
    return {static_cast<T*>(data_), static_cast<size_t>(numel_)};
  }
  template <typename T>
  std::span<const T> as() const {
    return {static_cast<const T*>(data_), static_cast<size_t>(numel_)};
  }

  /// Element `index` (row-major) as a double; i64 beyond 2^53 loses low bits.
  double get(int64_t index) const;
  /// Stores `value` rounded to the dtype.
  void set(int64_t index, double value);
  std::vector<double> to_doubles() const;
  static HostTensor from_doubles(DType dtype, Shape shape, std::span<const double> values);
  HostTensor clone() const;

 private:
  DType dtype_ = DType::f32;
  Shape shape_;
  int64_t numel_ = 0;
  void* data_ = nullptr;
  std::shared_ptr<void> owner_;
};

}  // namespace espalier
