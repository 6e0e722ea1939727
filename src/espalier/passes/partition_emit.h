// SPDX-License-Identifier: Apache-2.0
// The local form of an op: what a device does with its pieces.
#pragma once

#include <vector>

#include "espalier/passes/partition_moves.h"

namespace espalier::passes::part {

struct EmitUse {
  ir::Builder& out;
  Mover& mover;
  const shard::Mesh& mesh;
  const ir::Graph& graph;     // of one device
  const ir::Node& node;       // of it
  std::vector<ir::Value> in;  // pieces of the operands
  const OpFactors& factors;
  const Assignment& assignment;

  shard::PartitionSpec out_spec(size_t result = 0) const {
    return spec_of(factors.results[result], assignment);
  }
  Shape local_shape(size_t result = 0) const {
    return out_spec(result).local_shape(node.types[result].shape, mesh);
  }
};

/// Adds the nodes; returns one value for each result. Sums over cut factors stay open.
std::vector<ir::Value> emit_local(const EmitUse& use);

}  // namespace espalier::passes::part
