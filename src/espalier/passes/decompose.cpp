// SPDX-License-Identifier: Apache-2.0
// decompose: layer_norm, rms_norm, softmax, softmax_cross_entropy --> basic ops. Attention stays:
// the attention pass has decided about it. After this, layers and handwritten models are the same.
#include "espalier/ir/decompose.h"

#include "espalier/ir/builder.h"
#include "espalier/passes/pass.h"

namespace espalier::passes {

ir::Graph decompose(const ir::Graph& graph, const PassOptions&) {
  ir::Builder out(graph.name());
  ir::Rewriter rewriter(graph, out);
  for (size_t i = 0; i < graph.nodes().size(); ++i) {
    const auto id = static_cast<int32_t>(i);
    const ir::Node& node = graph.nodes()[i];
    if (!ir::has_trait(node.op, ir::kComposite) || node.op == ir::Op::attention) {
      rewriter.copy(id);
      continue;
    }
    std::vector<ir::Value> inputs;
    for (ir::Value v : node.inputs) inputs.push_back(rewriter[v]);
    out.set_scope(node.scope);
    rewriter.map({id, 0}, ir::decompose(out, node, inputs)[0]);
  }
  rewriter.copy_outputs();
  return out.finish();
}

/// erase_stops: stop_gradient(x) --> x, once gradients have been taken.
ir::Graph erase_stops(const ir::Graph& graph, const PassOptions&) {
  ir::Builder out(graph.name());
  ir::Rewriter rewriter(graph, out);
  for (size_t i = 0; i < graph.nodes().size(); ++i) {
    const auto id = static_cast<int32_t>(i);
    const ir::Node& node = graph.nodes()[i];
    if (node.op == ir::Op::stop_gradient) {
      rewriter.map({id, 0}, rewriter[node.inputs[0]]);
    } else {
      rewriter.copy(id);
    }
  }
  rewriter.copy_outputs();
  return out.finish();
}

}  // namespace espalier::passes
