// SPDX-License-Identifier: Apache-2.0
#include "espalier/passes/epilogue.h"

namespace espalier::passes {
namespace {

using ir::Attr;
using ir::Node;
using ir::Op;
using ir::Value;

/// The vector behind a broadcast along the last axis.
std::optional<Value> bias_vector(const ir::Graph& graph, Value v) {
  const Node& node = graph.node(v);
  if (node.op != Op::broadcast) return std::nullopt;
  const auto& axes = node.attrs.integers(Attr::axes);
  if (axes.size() != 1 || axes[0] != node.types[0].shape.rank() - 1) return std::nullopt;
  return node.inputs[0];
}

bool is_zero(const ir::Graph& graph, Value v) {
  const Node& node = graph.node(v);
  return node.op == Op::constant && node.attrs.real(Attr::value) == 0.0;
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
      if (graph.type(*bias).dtype != DType::f32) continue;
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

Value add_epilogue_matmul(const ir::Graph& graph, const Epilogue& epilogue,
                          const ir::Rewriter& rewriter, ir::Builder& out) {
  const Node& dot = graph.node(epilogue.dot);
  std::vector<Value> inputs{rewriter[dot.inputs[0]], rewriter[dot.inputs[1]]};
  ir::Attrs attrs = dot.attrs;
  attrs.set(Attr::dtype, epilogue.dtype);
  if (epilogue.bias.defined()) {
    attrs.set(Attr::bias, int64_t{1});
    inputs.push_back(rewriter[epilogue.bias]);
  }
  if (!epilogue.activation.empty()) attrs.set(Attr::activation, epilogue.activation);
  return out.add(Op::matmul, std::move(inputs), std::move(attrs));
}

}  // namespace espalier::passes
