// SPDX-License-Identifier: Apache-2.0
// Rotary positions (Su et al., arXiv 2104.09864) with the two halves of a head as the planes that
// are turned, as Hugging Face's models have it.
#pragma once

#include "espalier/ir/tensor.h"

namespace espalier::nn {

/// Cosine and sine of position * theta^(-2 i / head_size), f32 [batch, seq, 1, head_size / 2]: one
/// pair for all layers.
struct Rotary {
  Tensor cos, sin;

  /// positions: integers [batch, seq]. `head_size` is even.
  Rotary(Tensor positions, int64_t head_size, double theta);

  /// x [batch, seq, heads, head_size] -> same, each head turned by its position.
  Tensor operator()(Tensor x) const;
};

}  // namespace espalier::nn
