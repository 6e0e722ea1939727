// SPDX-License-Identifier: Apache-2.0
// The meaning of every op: plain loops in double. The oracle of all kernels and passes.
//
// Values are doubles; integers are exact up to 2^53. A result of type bf16, f16, integer or bool is
// rounded to it. f32 results keep all digits of the double, unless the options say otherwise.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "espalier/ir/graph.h"
#include "espalier/tensor/host_tensor.h"

namespace espalier::interp {

/// Elements in row-major order.
struct DoubleTensor {
  ir::TensorType type;
  std::vector<double> data;
};

DoubleTensor from_host(const HostTensor& tensor);
/// Rounds to the dtype of the tensor.
HostTensor to_host(const DoubleTensor& tensor);

struct Options {
  /// Rounds every f32 result to f32, as a machine that fuses nothing would.
  bool round_f32 = false;
  /// Called with each node's id and results, in order: to find the first NaN, to read hooks.
  std::function<void(int32_t node, std::span<const DoubleTensor> results)> watch;
};

/// Values of the graph's outputs. `inputs` belong to graph.inputs(), in that order.
/// Throws `user` when their number or types differ, or when a gather or scatter_add reads an index
/// outside its table.
std::vector<DoubleTensor> evaluate(const ir::Graph& graph, std::span<const DoubleTensor> inputs,
                                   const Options& options = {});

}  // namespace espalier::interp
