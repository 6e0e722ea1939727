// SPDX-License-Identifier: Apache-2.0
#include "espalier/tensor/shape.h"

#include <fmt/ranges.h>

#include "espalier/base/error.h"

namespace espalier {

int64_t Shape::numel() const {
  int64_t product = 1;
  for (int64_t size : dims_) {
    ESPALIER_CHECK(size >= 0, ErrorKind::user, "shape", "negative size in {}", str());
    ESPALIER_CHECK(!__builtin_mul_overflow(product, size, &product), ErrorKind::user, "shape",
                   "the number of elements of {} does not fit 64 bits", str());
  }
  return product;
}

std::vector<int64_t> Shape::strides() const {
  std::vector<int64_t> result(dims_.size());
  int64_t stride = 1;
  for (size_t i = dims_.size(); i-- > 0;) {
    result[i] = stride;
    stride *= dims_[i];
  }
  return result;
}

std::string Shape::str() const { return fmt::format("[{}]", fmt::join(dims_, ",")); }

}  // namespace espalier
