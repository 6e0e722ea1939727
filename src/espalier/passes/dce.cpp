// SPDX-License-Identifier: Apache-2.0
// dce: nodes that no output needs --> gone. Inputs stay: they are the interface.
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

}  // namespace espalier::passes
