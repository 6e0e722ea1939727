// SPDX-License-Identifier: Apache-2.0
#include "espalier/passes/epilogue.h"

namespace espalier::passes {
namespace {

using ir::Attr;
using ir::Node;
using ir::Op;
using ir::Value;

/// The vector behind a broadcast along the last axis; one stored narrow is added as it is.
std::optional<Value> bias_vector(const ir::Graph& graph, Value v) {
  const Node& node = graph.node(v);
  if (node.op != Op::broadcast) return std::nullopt;
  const auto& axes = node.attrs.integers(Attr::axes);
  if (axes.size() != 1 || axes[0] != node.types[0].shape.rank() - 1) return std::nullopt;
  const Node& vector = graph.node(node.inputs[0]);
  if (graph.type(node.inputs[0]).dtype != DType::f32) return std::nullopt;
  if (vector.op != Op::convert) return node.inputs[0];
  const DType stored = graph.type(vector.inputs[0]).dtype;
  const bool widens = stored == DType::bf16 || stored == DType::f16;
  return widens ? vector.inputs[0] : node.inputs[0];
}

bool is_constant(const ir::Graph& graph, Value v, double value) {
  const Node& node = graph.node(v);
  return node.op == Op::constant && node.attrs.real(Attr::value) == value;
}
bool is_zero(const ir::Graph& graph, Value v) { return is_constant(graph, v, 0.0); }

/// x of x / (1 + exp(min(-x, limit))), whose nodes are all for this alone; or none.
Value silu_argument(const ir::Graph& graph, const std::vector<int32_t>& uses, Value v,
                    const std::function<bool(int32_t)>& inner) {
  const auto enter = [&](Value at, Op op, int32_t used) -> const Node* {
    const Node& node = graph.node(at);
    const bool fits = node.op == op && inner(at.node) && uses[static_cast<size_t>(at.node)] == used;
    return fits ? &node : nullptr;
  };
  const Node* quotient = enter(v, Op::div, 1);
  if (quotient == nullptr) return {};
  const Node* sum = enter(quotient->inputs[1], Op::add, 1);
  if (sum == nullptr) return {};
  const size_t one = is_constant(graph, sum->inputs[0], 1.0) ? 0 : 1;
  if (!is_constant(graph, sum->inputs[one], 1.0)) return {};
  const Node* power = enter(sum->inputs[1 - one], Op::exp, 1);
  if (power == nullptr) return {};
  const Node* least = enter(power->inputs[0], Op::min, 1);
  if (least == nullptr || graph.node(least->inputs[1]).op != Op::constant) return {};
  const Node* negative = enter(least->inputs[0], Op::neg, 1);
  if (negative == nullptr || negative->inputs[0] != quotient->inputs[0]) return {};
  return quotient->inputs[0];
}

/// Two products that a kernel can compute side by side.
bool are_twins(const ir::Graph& graph, Value a, Value b) {
  const Node& x = graph.node(a);
  const Node& y = graph.node(b);
  if (x.op != Op::dot || y.op != Op::dot || a == b) return false;
  // As they lie in memory: views of weights may be strided in different ways.
  if (graph.node(x.inputs[1]).op != Op::input || graph.node(y.inputs[1]).op != Op::input) {
    return false;
  }
  return x.inputs[0] == y.inputs[0] && graph.type(x.inputs[1]) == graph.type(y.inputs[1]) &&
         x.attrs == y.attrs && x.attrs.integer_or(Attr::packed, 0) != 0 &&
         !x.attrs.has(Attr::lhs_batch) && graph.type(a).dtype == DType::f32;
}

}  // namespace

std::optional<Epilogue> match_epilogue(const ir::Graph& graph, const std::vector<int32_t>& uses,
                                       int32_t result, const std::function<bool(int32_t)>& inner) {
  Epilogue found;
  found.dtype = graph.node(result).types[0].dtype;
  Value v{result, 0};
  // Steps outwards in, each at most once and in this order; a step into `v` must be for us alone.
  const auto enter = [&](Value next) {
    if (graph.node(next).op != Op::dot && !inner(next.node)) return false;
    if (uses[static_cast<size_t>(next.node)] != 1) return false;
    v = next;
    return true;
  };
  if (graph.node(v).op == Op::convert && !enter(graph.node(v).inputs[0])) return std::nullopt;
  if (graph.node(v).op == Op::max && is_zero(graph, graph.node(v).inputs[1])) {
    found.activation = "relu";
    if (!enter(graph.node(v).inputs[0])) return std::nullopt;
  }
  if (graph.node(v).op == Op::add) {
    const Node& add = graph.node(v);
    for (size_t side = 0; side < 2 && !found.bias.defined(); ++side) {
      const auto bias = bias_vector(graph, add.inputs[side]);
      if (!bias || graph.node(add.inputs[1 - side]).op != Op::dot) continue;
      found.bias = *bias;
      if (!enter(add.inputs[1 - side])) return std::nullopt;
    }
  }
  if (graph.node(v).op != Op::dot || graph.type(v).dtype != DType::f32 || v.node == result) {
    return std::nullopt;
  }
  found.dot = v.node;
  return found;
}

std::optional<Epilogue> match_gated(const ir::Graph& graph, const std::vector<int32_t>& uses,
                                    int32_t result, const std::function<bool(int32_t)>& inner) {
  Epilogue found;
  found.dtype = graph.node(result).types[0].dtype;
  found.activation = "swiglu";
  Value v{result, 0};
  if (graph.node(v).op == Op::convert) {
    v = graph.node(v).inputs[0];
    if (!inner(v.node) || uses[static_cast<size_t>(v.node)] != 1) return std::nullopt;
  }
  const Node& product = graph.node(v);
  if (product.op != Op::mul) return std::nullopt;
  for (size_t side = 0; side < 2; ++side) {
    const Value gate = silu_argument(graph, uses, product.inputs[side], inner);
    const Value second = product.inputs[1 - side];
    if (!gate.defined() || !are_twins(graph, gate, second)) continue;
    if (uses[static_cast<size_t>(gate.node)] != 2) continue;
    if (uses[static_cast<size_t>(second.node)] != 1) continue;
    found.dot = gate.node;
    found.second = second.node;
    return found;
  }
  return std::nullopt;
}

Value add_epilogue_matmul(const ir::Graph& graph, const Epilogue& epilogue,
                          const ir::Rewriter& rewriter, ir::Builder& out) {
  const Node& dot = graph.node(epilogue.dot);
  std::vector<Value> inputs{rewriter[dot.inputs[0]], rewriter[dot.inputs[1]]};
  ir::Attrs attrs = dot.attrs;
  attrs.set(Attr::dtype, epilogue.dtype);
  if (epilogue.second >= 0) inputs.push_back(rewriter[graph.node(epilogue.second).inputs[1]]);
  if (epilogue.bias.defined()) {
    attrs.set(Attr::bias, int64_t{1});
    inputs.push_back(rewriter[epilogue.bias]);
  }
  if (!epilogue.activation.empty()) attrs.set(Attr::activation, epilogue.activation);
  return out.add(Op::matmul, std::move(inputs), std::move(attrs));
}

}  // namespace espalier::passes
