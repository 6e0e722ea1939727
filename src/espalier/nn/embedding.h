// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "espalier/nn/module_ref.h"
#include "espalier/nn/scheme.h"

namespace espalier::nn {

/// Rows of a table: indices [...] of an integer type -> [..., width].
struct Embedding : Module<Embedding> {
  Param weight;  // [rows, width]
  static constexpr auto fields = nn::fields(&Embedding::weight, "weight");
  static constexpr std::array parallel{ParallelDims{"weight", 1, 0}};

  Embedding() = default;
  Embedding(int64_t rows, int64_t width, Init init) : weight(Shape{rows, width}, init) {}

  Tensor operator()(Tensor indices) const { return gather(weight.value(), indices); }
};

}  // namespace espalier::nn
