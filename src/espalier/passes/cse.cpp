// SPDX-License-Identifier: Apache-2.0
// cse: %3 = add %1, %2; %4 = add %1, %2 --> one node. Random draws with one stream id are one
// value.
#include <algorithm>
#include <compare>
#include <map>

#include "espalier/ir/builder.h"
#include "espalier/passes/pass.h"

namespace espalier::passes {
namespace {

/// What a node computes; its attributes stay in the graph.
struct Key {
  ir::Op op;
  std::vector<ir::Value> inputs;
  const ir::Attrs* attrs;

  friend bool operator<(const Key& a, const Key& b) {
    if (a.op != b.op) return a.op < b.op;
    if (a.inputs != b.inputs) return a.inputs < b.inputs;
    return std::is_lt(std::lexicographical_compare_three_way(a.attrs->begin(), a.attrs->end(),
                                                             b.attrs->begin(), b.attrs->end()));
  }
};

}  // namespace

ir::Graph cse(const ir::Graph& graph, const PassOptions&) {
  ir::Builder out(graph.name());
  ir::Rewriter rewriter(graph, out);
  std::map<Key, ir::Value> seen;
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
    Key key{node.op, std::move(inputs), &node.attrs};
    const auto found = seen.find(key);
    if (found == seen.end()) {
      seen.emplace(std::move(key), rewriter.copy(id));
      continue;
    }
    for (size_t r = 0; r < node.types.size(); ++r) {
      const auto index = static_cast<int32_t>(r);
      rewriter.map({id, index}, {found->second.node, index});
    }
  }
  rewriter.copy_outputs();
  return out.finish();
}

}  // namespace espalier::passes
