// SPDX-License-Identifier: Apache-2.0
// One function an op. Each returns the elements of its results, not yet rounded to their types.
#pragma once

#include <optional>
#include <vector>

#include "espalier/interp/interp.h"
#include "espalier/shard/mesh.h"
#include "espalier/shard/spec.h"

namespace espalier::interp {

using Elements = std::vector<double>;

/// The device that runs a node, where a mesh runs the graph.
struct Place {
  const shard::Mesh& mesh;
  int64_t rank;
};

struct Call {
  const ir::Graph& graph;
  const ir::Node& node;
  std::vector<const DoubleTensor*> in;
  const Options& options;
  const Place* place = nullptr;

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

/// Where the piece that attributes `whole` and `cut` describe stands in the whole; nothing where
/// the result is whole. Throws `unsupported` for a piece outside of a mesh.
std::optional<shard::Region> piece_of(const Call& call);

/// Offsets base + sum(index[i] * strides[i]) of all indices of `sizes`, in row-major order.
std::vector<size_t> offsets(const std::vector<int64_t>& sizes, const std::vector<int64_t>& strides,
                            int64_t base = 0);

}  // namespace espalier::interp
