// SPDX-License-Identifier: Apache-2.0
// Reverse-mode differentiation of a graph under construction.
#pragma once

#include <span>
#include <vector>

#include "espalier/ir/builder.h"

namespace espalier::autodiff {

/// Adds the nodes that compute d loss / d value for each value of `wrt`, of the value's own type.
///
/// `loss` is a float scalar. Only nodes between `wrt` and the loss get backward nodes; each stands
/// in the scope of the forward node it belongs to. A value used twice gets the sum. Integers,
/// comparisons, floor and stop_gradient pass nothing on. A value that the loss does not depend on
/// gets a constant zero. max(a, b) passes its gradient to a where a > b and to b otherwise, so relu
/// has slope 0 at 0; min mirrors that; ties of reduce_max share evenly.
/// Throws `user` for a loss that is no float scalar or a `wrt` that is no float, `unsupported` for
/// an op without a rule, naming it and its scope.
std::vector<ir::Value> gradients(ir::Builder& builder, ir::Value loss,
                                 std::span<const ir::Value> wrt);

}  // namespace espalier::autodiff
