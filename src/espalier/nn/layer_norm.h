// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "espalier/nn/module.h"

namespace espalier::nn {

/// Normalizes the last axis to mean 0 and variance 1, then scales and shifts
/// (Ba, Kiros, Hinton, arXiv 1607.06450): x [..., width] -> same.
struct LayerNorm : Module<LayerNorm> {
  Param weight, bias;  // [width]
  double epsilon = 1e-5;
  static constexpr auto fields = nn::fields(&LayerNorm::weight, "weight", &LayerNorm::bias, "bias");

  LayerNorm() = default;
  explicit LayerNorm(int64_t width, double epsilon = 1e-5)
      : weight(Shape{width}, Init::ones()), bias(Shape{width}, Init::zeros()), epsilon(epsilon) {}

  Tensor operator()(Tensor x) const { return layer_norm(x, weight.value(), bias.value(), epsilon); }
};

}  // namespace espalier::nn
