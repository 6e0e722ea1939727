// SPDX-License-Identifier: Apache-2.0
// The table of vector-Jacobian products: one row an op.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "espalier/ir/tensor.h"

namespace espalier::autodiff {

/// What a rule sees of one forward node.
struct Use {
  ir::Builder& builder;
  ir::Node node;              // a copy: the graph grows while a rule runs
  std::vector<Tensor> in;     // operands
  std::vector<Tensor> out;    // results
  std::vector<Tensor> grads;  // of the results; undefined where nothing arrived
  std::vector<bool> needs;    // operands whose gradient is wanted

  const Tensor& g() const { return grads[0]; }
};

/// Gradients of the operands; undefined for those without one or that are not needed.
using Grads = std::vector<Tensor>;
using Rule = Grads (*)(const Use&);

struct RuleRow {
  ir::Op op;
  Rule rule;
};

std::vector<RuleRow> elementwise_rules();
std::vector<RuleRow> structure_rules();
std::vector<RuleRow> composite_rules();

/// Null for an op without a rule.
Rule rule_of(ir::Op op);
/// floor, comparisons, stop_gradient, leaves: results that never depend on a float smoothly.
bool blocks_gradient(const ir::Node& node);

/// Gradients of `wrt` given those of `results` (undefined: none), through nodes from `first` on.
/// Undefined for a value that no result depends on.
std::vector<Tensor> pull_back(ir::Builder& builder, int32_t first, std::span<const Tensor> results,
                              std::span<const Tensor> grads, std::span<const Tensor> wrt);

/// The value that every element has, when x is a constant.
std::optional<double> splat(const Tensor& x);
/// a * b; constants are multiplied here and now, and 1 * x is x.
Tensor times(Tensor a, Tensor b);
/// broadcast, of a constant into a larger constant.
Tensor spread(Tensor x, Shape shape, std::vector<int64_t> axes);

}  // namespace espalier::autodiff
