// SPDX-License-Identifier: Apache-2.0
// The two families of initial values that layers know by name (`--init torch|jax`).
#pragma once

#include <cstdint>

#include "espalier/nn/init.h"

namespace espalier::nn {

enum class InitScheme : uint8_t { torch, jax };

/// torch: uniform +-sqrt(1/fan_in); jax: truncated normal of variance 1/fan_in.
inline Init linear_weight_init(InitScheme scheme, int64_t fan_in) {
  return scheme == InitScheme::torch ? Init::torch_linear(fan_in) : Init::lecun_normal(fan_in);
}
/// torch: uniform +-sqrt(1/fan_in); jax: zeros.
inline Init linear_bias_init(InitScheme scheme, int64_t fan_in) {
  return scheme == InitScheme::torch ? Init::torch_linear(fan_in) : Init::zeros();
}
/// torch: N(0, 1); jax: normal with deviation 0.01.
inline Init embedding_init(InitScheme scheme) {
  return Init::normal(scheme == InitScheme::torch ? 1.0 : 0.01);
}

}  // namespace espalier::nn
