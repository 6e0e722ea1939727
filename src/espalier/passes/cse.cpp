// SPDX-License-Identifier: Apache-2.0
// cse: %3 = add %1, %2; %4 = add %1, %2 --> one node. Random draws with one stream id are one
// value.
#include <algorithm>
#include <functional>
#include <unordered_set>

#include "espalier/ir/builder.h"
#include "espalier/passes/pass.h"

namespace espalier::passes {
namespace {

/// What a node computes, and the node that does; its attributes stay in the graph.
struct Known {
  ir::Op op;
  std::vector<ir::Value> inputs;
  const ir::Attrs* attrs;
  int32_t node;

  friend bool operator==(const Known& a, const Known& b) {
    return a.op == b.op && a.inputs == b.inputs && ir::equal(*a.attrs, *b.attrs);
  }
};

struct Hash {
  size_t operator()(const Known& known) const {
    auto hash = static_cast<size_t>(known.op);
    if (known.op == ir::Op::constant) {
      hash += std::hash<double>()(known.attrs->real(ir::Attr::value));
    }
    for (const ir::Value v : known.inputs) {
      hash = hash * 0x9E3779B97F4A7C15ull + static_cast<size_t>(v.node) * 8 +
             static_cast<size_t>(v.index);
    }
    return hash;
  }
};

}  // namespace

ir::Graph cse(const ir::Graph& graph, const PassOptions&) {
  ir::Builder out(graph.name());
  ir::Rewriter rewriter(graph, out);
  std::unordered_set<Known, Hash> seen;
  for (size_t i = 0; i < graph.nodes().size(); ++i) {
    const auto id = static_cast<int32_t>(i);
    const ir::Node& node = graph.nodes()[i];
    if (node.op == ir::Op::input || node.op == ir::Op::fusion) {
      rewriter.copy(id);
      continue;
    }
    std::vector<ir::Value> inputs;
    for (ir::Value v : node.inputs) inputs.push_back(rewriter[v]);
    if (ir::has_trait(node.op, ir::kCommutative)) std::sort(inputs.begin(), inputs.end());
    Known known{node.op, std::move(inputs), &node.attrs, -1};
    const auto found = seen.find(known);
    if (found == seen.end()) {
      known.node = rewriter.copy(id).node;
      seen.insert(std::move(known));
      continue;
    }
    for (size_t r = 0; r < node.types.size(); ++r) {
      const auto index = static_cast<int32_t>(r);
      rewriter.map({id, index}, {found->node, index});
    }
  }
  rewriter.copy_outputs();
  return out.finish();
}

}  // namespace espalier::passes
