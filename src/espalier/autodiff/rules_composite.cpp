// SPDX-License-Identifier: Apache-2.0
// Composite ops: attention has a gradient op, the others are differentiated through their parts.
#include <algorithm>

#include "espalier/autodiff/rules.h"
#include "espalier/ir/decompose.h"

namespace espalier::autodiff {
namespace {

using ir::Attr;
using ir::Op;
using ir::Value;

/// Adds the parts of the node once more and goes back through them; what of the forward part is
/// computed twice is removed as a common subexpression.
Grads through_parts(const Use& u) {
  const auto first = static_cast<int32_t>(u.builder.graph().nodes().size());
  std::vector<Tensor> results;
  for (Value v : ir::decompose(u.builder, u.node, u.node.inputs))
    results.emplace_back(u.builder, v);

  // An operand that stands in two places gets its whole gradient at the first.
  Grads grads(u.in.size());
  std::vector<Tensor> wrt;
  std::vector<size_t> places;
  for (size_t i = 0; i < u.in.size(); ++i) {
    const auto begin = u.node.inputs.begin();
    const auto end = begin + static_cast<std::ptrdiff_t>(i);
    if (!u.needs[i] || std::find(begin, end, u.node.inputs[i]) != end) continue;
    wrt.push_back(u.in[i]);
    places.push_back(i);
  }
  const std::vector<Tensor> found = pull_back(u.builder, first, results, u.grads, wrt);
  for (size_t i = 0; i < found.size(); ++i) grads[places[i]] = found[i];
  return grads;
}

/// attention_grad takes q, k, v, out, lse, gradient of out and the same optional operands.
Grads attention_rule(const Use& u) {
  const bool through_lse = u.grads[1].defined();
  if (through_lse) return through_parts(u);
  std::vector<Value> inputs{u.in[0].value(),  u.in[1].value(),  u.in[2].value(),
                            u.out[0].value(), u.out[1].value(), u.g().value()};
  inputs.insert(inputs.end(), u.node.inputs.begin() + 3, u.node.inputs.end());
  ir::Attrs attrs = u.node.attrs;
  attrs.erase(Attr::dtype);
  const Value made = u.builder.add(Op::attention_grad, std::move(inputs), std::move(attrs));
  Grads grads(u.in.size());
  for (int32_t i = 0; i < 3; ++i) grads[static_cast<size_t>(i)] = {u.builder, {made.node, i}};
  return grads;
}

}  // namespace

std::vector<RuleRow> composite_rules() {
  return {
      {Op::layer_norm, through_parts}, {Op::rms_norm, through_parts},
      {Op::softmax, through_parts},    {Op::softmax_cross_entropy, through_parts},
      {Op::attention, attention_rule},
  };
}

}  // namespace espalier::autodiff
