// SPDX-License-Identifier: Apache-2.0
// What composite ops are made of: primitive nodes with the same meaning.
//
// bf16 and f16 operands are widened to f32 inside, as the kernels do; f32 and f64 stay as they are.
#pragma once

#include <vector>

#include "espalier/ir/builder.h"

namespace espalier::ir {

/// Adds primitive nodes that compute composite `node` (see kComposite) of `inputs`, in the scope of
/// the node. Returns one value for each result. Throws `internal` for other ops.
/// `node` and `inputs` are copies, so that they may come from the graph that grows.
std::vector<Value> decompose(Builder& builder, Node node, std::vector<Value> inputs);

}  // namespace espalier::ir
