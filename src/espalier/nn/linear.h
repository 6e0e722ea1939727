// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "espalier/nn/module_ref.h"
#include "espalier/nn/scheme.h"

namespace espalier::nn {

struct LinearOptions {
  bool bias = true;
  InitScheme init = InitScheme::torch;
};

/// y = x weight^T + bias: x [..., in] -> [..., out].
struct Linear : Module<Linear> {
  Param weight;               // [out, in]
  std::optional<Param> bias;  // [out]
  static constexpr auto fields = nn::fields(&Linear::weight, "weight", &Linear::bias, "bias");
  static constexpr std::array parallel{ParallelDims{"weight", 0, 1}, ParallelDims{"bias", 0, -1}};

  Linear() = default;
  Linear(int64_t in, int64_t out, const LinearOptions& options = {})
      : weight(Shape{out, in}, linear_weight_init(options.init, in)) {
    if (options.bias) bias = Param(Shape{out}, linear_bias_init(options.init, in));
  }

  Tensor operator()(Tensor x) const {
    const Tensor y = linear(x, weight.value());
    return bias ? y + bias->value() : y;
  }
};

}  // namespace espalier::nn
