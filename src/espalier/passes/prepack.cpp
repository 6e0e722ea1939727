// SPDX-License-Identifier: Apache-2.0
// prepack: matmul x, weight --> matmul x, weight {packed=1} where no result replaces the weight: it
// is laid out for the kernel once instead of at every run.
#include <algorithm>

#include "espalier/ir/builder.h"
#include "espalier/passes/pass.h"

namespace espalier::passes {
namespace {

using ir::Attr;
using ir::Op;

/// The parameter behind reshapes and transposes, or -1.
int32_t parameter_behind(const ir::Graph& graph, ir::Value v) {
  while (ir::has_trait(graph.node(v).op, ir::kView)) v = graph.node(v).inputs[0];
  const ir::Node& node = graph.node(v);
  const bool parameter = node.op == Op::input && node.attrs.text(Attr::role) == "parameter";
  return parameter ? v.node : -1;
}

}  // namespace

ir::Graph prepack(const ir::Graph& graph, const PassOptions&) {
  ir::Builder out(graph.name());
  ir::Rewriter rewriter(graph, out);
  for (size_t i = 0; i < graph.nodes().size(); ++i) {
    const auto id = static_cast<int32_t>(i);
    const ir::Node& node = graph.nodes()[i];
    const int32_t weight = node.op == Op::matmul ? parameter_behind(graph, node.inputs[1]) : -1;
    const bool updated = std::any_of(graph.outputs().begin(), graph.outputs().end(),
                                     [&](const ir::Output& o) { return o.alias == weight; });
    if (weight < 0 || updated) {
      rewriter.copy(id);
      continue;
    }
    ir::Attrs attrs = node.attrs;
    attrs.set(Attr::packed, int64_t{1});
    rewriter.copy(id, std::move(attrs));
  }
  rewriter.copy_outputs();
  return out.finish();
}

}  // namespace espalier::passes
