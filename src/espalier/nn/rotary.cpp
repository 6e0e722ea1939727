// SPDX-License-Identifier: Apache-2.0
#include "espalier/nn/rotary.h"

#include <cmath>

#include "espalier/base/error.h"

namespace espalier::nn {

Rotary::Rotary(Tensor positions, int64_t head_size, double theta) {
  ESPALIER_CHECK(positions.rank() == 2 && head_size > 0 && head_size % 2 == 0, ErrorKind::user,
                 "rotary", "positions {} are not [batch, seq], or the head size {} is odd",
                 positions.type().str(), head_size);
  const Shape shape{positions.size(0), positions.size(1), 1, head_size / 2};
  const double step = -2.0 * std::log(theta) / static_cast<double>(head_size);
  // Rounded once: an angle is off by its position times the error of its frequency.
  const Tensor exact = exp(iota(positions.builder(), DType::f64, {head_size / 2}, 0) * step);
  const Tensor frequencies = convert(exact, DType::f32);
  const Tensor columns = reshape(convert(positions, DType::f32), {shape[0], shape[1], 1, 1});
  const Tensor angles = broadcast_to(columns, shape) * broadcast_to(frequencies, shape);
  cos = unary(ir::Op::cos, angles);
  sin = unary(ir::Op::sin, angles);
}

Tensor Rotary::operator()(Tensor x) const {
  const int64_t half = x.size(3) / 2;
  const Tensor low = slice(x, 3, 0, half), high = slice(x, 3, half, 2 * half);
  return concat({low * cos - high * sin, high * cos + low * sin}, 3);
}

}  // namespace espalier::nn
