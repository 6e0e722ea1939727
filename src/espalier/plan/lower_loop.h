// SPDX-License-Identifier: Apache-2.0
// From the body of a fusion to a loop and the strides of one call.
#pragma once

#include <optional>
#include <vector>

#include "espalier/ir/graph.h"
#include "espalier/ir/strided.h"
#include "espalier/plan/loop.h"

namespace espalier::plan {

/// What an operand of the loop is bound to.
struct LoopBinding {
  enum class Kind : uint8_t { operand, result, index };
  Kind kind = Kind::operand;
  int32_t number = 0;            // which operand or result of the fusion
  int64_t offset = 0;            // in elements; for index: the base
  std::vector<int64_t> strides;  // outer dimensions, then the inner one
};

struct LoweredLoop {
  Loop loop;
  std::vector<int64_t> outer_extents;
  int64_t inner_extent = 1;
  std::vector<LoopBinding> bindings;  // one per loop operand
  std::vector<int64_t> ids;           // random streams
  /// Per result of the fusion: whether it may overwrite an operand of the same type and strides.
  std::vector<char> may_overwrite;
  /// Per result: it is summed over calls and must be zero before the first.
  std::vector<char> accumulates;

  int64_t outer_count() const;
  /// The stride table of LoopCall, operand by operand.
  std::vector<int64_t> stride_table() const;
};

/// The loop op that computes an elementwise op: the one of its name.
std::optional<LoopOp> loop_op(ir::Op op);

/// `operands` and `results` say where elements lie; results of accumulating kind must be
/// contiguous. Throws `internal` when the body is no loop.
LoweredLoop lower_loop(const ir::Graph& body, const std::vector<ir::StridedView>& operands,
                       const std::vector<ir::StridedView>& results);

}  // namespace espalier::plan
