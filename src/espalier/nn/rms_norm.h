// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "espalier/nn/module.h"

namespace espalier::nn {

/// Divides the last axis by its root mean square and scales (Zhang and Sennrich, arXiv 1910.07467):
/// x [..., width] -> same.
struct RmsNorm : Module<RmsNorm> {
  Param weight;  // [width]
  double epsilon = 1e-6;
  static constexpr auto fields = nn::fields(&RmsNorm::weight, "weight");

  RmsNorm() = default;
  explicit RmsNorm(int64_t width, double epsilon = 1e-6)
      : weight(Shape{width}, Init::ones()), epsilon(epsilon) {}

  Tensor operator()(Tensor x) const { return rms_norm(x, weight.value(), epsilon); }
};

}  // namespace espalier::nn
