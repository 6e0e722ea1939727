// SPDX-License-Identifier: Apache-2.0
// dce: nodes that no output needs --> gone. Inputs stay: they are the interface.
// order: the same, and what is left stands in the order of a walk from the outputs, so that models
// which mean the same but were written in another order give one graph.
#include "espalier/ir/builder.h"
#include "espalier/passes/pass.h"

namespace espalier::passes {

ir::Graph dce(const ir::Graph& graph, const PassOptions&) {
  std::vector<char> live(graph.nodes().size(), 0);
  for (const ir::Output& output : graph.outputs()) live[static_cast<size_t>(output.value.node)] = 1;
  for (size_t i = graph.nodes().size(); i-- > 0;) {
    if (graph.nodes()[i].op == ir::Op::input) live[i] = 1;
    if (!live[i]) continue;
    for (ir::Value v : graph.nodes()[i].inputs) live[static_cast<size_t>(v.node)] = 1;
  }
  ir::Builder out(graph.name());
  ir::Rewriter rewriter(graph, out);
  for (size_t i = 0; i < live.size(); ++i) {
    if (live[i]) rewriter.copy(static_cast<int32_t>(i));
  }
  rewriter.copy_outputs();
  return out.finish();
}

ir::Graph order(const ir::Graph& graph, const PassOptions&) {
  ir::Builder out(graph.name());
  ir::Rewriter rewriter(graph, out);
  std::vector<char> done(graph.nodes().size(), 0);
  const auto copy = [&](int32_t id) {
    rewriter.copy(id);
    done[static_cast<size_t>(id)] = 1;
  };
  for (int32_t id : graph.inputs()) copy(id);
  // Operands first, by an explicit stack: (node, next operand).
  std::vector<std::pair<int32_t, size_t>> stack;
  for (const ir::Output& output : graph.outputs()) {
    stack.emplace_back(output.value.node, 0);
    while (!stack.empty()) {
      auto& [id, next] = stack.back();
      const ir::Node& node = graph.node(id);
      if (done[static_cast<size_t>(id)]) {
        stack.pop_back();
      } else if (next < node.inputs.size()) {
        const int32_t operand = node.inputs[next++].node;
        if (!done[static_cast<size_t>(operand)]) stack.emplace_back(operand, 0);
      } else {
        copy(id);
        stack.pop_back();
      }
    }
  }
  rewriter.copy_outputs();
  return out.finish();
}

}  // namespace espalier::passes
