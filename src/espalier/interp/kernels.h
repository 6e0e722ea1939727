// SPDX-License-Identifier: Apache-2.0
// One function an op. Each returns the elements of its results, not yet rounded to their types.
#pragma once

#include <vector>

#include "espalier/interp/interp.h"

namespace espalier::interp {

using Elements = std::vector<double>;

struct Call {
  const ir::Graph& graph;
  const ir::Node& node;
  std::vector<const DoubleTensor*> in;
  const Options& options;

  const Elements& data(size_t operand) const { return in[operand]->data; }
  const Shape& shape(size_t operand) const { return in[operand]->type.shape; }
  const ir::TensorType& out(size_t result = 0) const { return node.types[result]; }
};

using Kernel = std::vector<Elements> (*)(const Call&);

struct KernelRow {
  ir::Op op;
  Kernel kernel;
};

/// The rows of each family; together every op but `input`, once.
std::vector<KernelRow> elementwise_kernels();
std::vector<KernelRow> movement_kernels();
std::vector<KernelRow> contraction_kernels();
std::vector<KernelRow> norm_kernels();
std::vector<KernelRow> attention_kernels();

/// Offsets base + sum(index[i] * strides[i]) of all indices of `sizes`, in row-major order.
std::vector<size_t> offsets(const std::vector<int64_t>& sizes, const std::vector<int64_t>& strides,
                            int64_t base = 0);

}  // namespace espalier::interp
