// SPDX-License-Identifier: Apache-2.0
// What the partition pass knows of each op: a table of factors. A factor is an index of the loops
// that the op means; a dimension is made of one factor, or of several, major first, where a reshape
// joins or splits it. Mesh axes cut factors, so cutting one dimension cuts all that share it.
//
//   dot [B,M,K] x [K,N] -> [B,M,N]     B, M, N are mapped, K is summed
//   reshape [B,S*D] -> [B,S,D]         three factors, two of them in one dimension
#pragma once

#include <cstdint>
#include <vector>

#include "espalier/ir/graph.h"

namespace espalier::passes::part {

enum class FactorKind : uint8_t {
  map,  // in operands and results, or in results only
  sum,  // in operands only: pieces give parts of a sum
  max,  // in operands only: pieces give candidates for the largest
  one,  // of a slice, pad or concat of equal parts: which of them; never cut
};
struct Factor {
  int64_t size;
  FactorKind kind = FactorKind::map;
};
/// Factors of a dimension, major first. None: the op needs the dimension whole.
using DimFactors = std::vector<int32_t>;
using TensorFactors = std::vector<DimFactors>;

struct OpFactors {
  std::vector<Factor> factors;
  std::vector<TensorFactors> inputs, results;
};

struct FactorUse {
  const ir::Graph& graph;
  const ir::Node& node;
  /// gather, scatter_add: pieces of the rows that indices stay inside of; 1 where nothing is known.
  int64_t local_pieces = 1;

  const Shape& in(size_t operand) const { return graph.type(node.inputs[operand]).shape; }
  const Shape& out(size_t result = 0) const { return node.types[result].shape; }
};

/// What happens to an operand whose sum over devices is still to be taken.
enum class OpenSum : uint8_t {
  close,  // it is taken first
  pass,   // the op is linear in its operand: it is taken of the result
  join,   // add and sub: sums join, and are taken together
};

struct PartitionRow {
  ir::Op op;
  OpFactors (*factors)(const FactorUse& use);
  OpenSum open = OpenSum::close;
  /// So cheap that each use makes it in the place it needs: nothing is moved.
  bool lazy = false;
  /// Dimensions that had to be put together are cut again in the result.
  bool recut = false;
  /// Pieces must be ranges of places, as the op counts them along a dimension.
  bool ranges = false;
};

/// The row of an op; throws `unsupported` where there is none.
const PartitionRow& partition_row(ir::Op op);

}  // namespace espalier::passes::part
