// SPDX-License-Identifier: Apache-2.0
// remat: forward values of chosen scopes are recomputed in the backward pass instead of kept.
//
//   h = f(x)  ...  g = vjp(h)   -->   h = f(x)  ...  h' = f(x); g = vjp(h')
//
// The copies carry the attribute `remat`, so that cse does not join them with the originals. Values
// that enter a scope from outside stay stored: they are what the copies start from.
#include "espalier/base/glob.h"
#include "espalier/ir/builder.h"
#include "espalier/passes/pass.h"

namespace espalier::passes {
namespace {

using ir::Attr;
using ir::Value;

class Rematerializer {
 public:
  Rematerializer(const ir::Graph& graph, ir::Builder& out, const PassOptions& options)
      : graph_(graph), rewriter_(graph, out), out_(out), copies_(graph.nodes().size()) {
    for (const std::string& pattern : options.remat) globs_.emplace_back(pattern);
  }

  /// `first_backward`: nodes from here on are the backward pass.
  void run(int32_t first_backward) {
    for (size_t i = 0; i < graph_.nodes().size(); ++i) {
      const auto id = static_cast<int32_t>(i);
      const ir::Node& node = graph_.nodes()[i];
      if (id < first_backward) {
        rewriter_.copy(id);
        continue;
      }
      std::vector<Value> inputs;
      for (Value v : node.inputs) inputs.push_back(value_in_backward(v, first_backward));
      out_.set_scope(node.scope);
      const Value now = node.op == ir::Op::input ? rewriter_.copy(id)
                                                 : out_.add(node.op, std::move(inputs), node.attrs);
      for (size_t r = 0; r < node.types.size(); ++r) {
        const auto index = static_cast<int32_t>(r);
        rewriter_.map({id, index}, {now.node, index});
      }
    }
    rewriter_.copy_outputs();
  }

 private:
  bool chosen(int32_t id) const {
    const ir::Node& node = graph_.node(id);
    if (ir::has_trait(node.op, ir::kLeaf)) return false;
    for (const Glob& glob : globs_) {
      if (glob.matches(*node.scope)) return true;
    }
    return false;
  }

  Value value_in_backward(Value v, int32_t first_backward) {
    if (v.node >= first_backward || !chosen(v.node)) return rewriter_[v];
    Value& copy = copies_[static_cast<size_t>(v.node)];
    if (!copy.defined()) {
      const ir::Node& node = graph_.node(v.node);
      std::vector<Value> inputs;
      for (Value in : node.inputs) inputs.push_back(value_in_backward(in, first_backward));
      ir::Attrs attrs = node.attrs;
      attrs.set(Attr::remat, int64_t{1});
      out_.set_scope(node.scope);
      copy = out_.add(node.op, std::move(inputs), std::move(attrs));
    }
    return {copy.node, v.index};
  }

  const ir::Graph& graph_;
  ir::Rewriter rewriter_;
  ir::Builder& out_;
  std::vector<Value> copies_;
  std::vector<Glob> globs_;
};

/// The backward pass starts after the node of the output "loss".
int32_t first_backward_node(const ir::Graph& graph) {
  for (const ir::Output& output : graph.outputs()) {
    if (output.name == "loss") return output.value.node + 1;
  }
  return static_cast<int32_t>(graph.nodes().size());
}

}  // namespace

ir::Graph remat(const ir::Graph& graph, const PassOptions& options) {
  if (options.remat.empty()) return graph;
  ir::Builder out(graph.name());
  Rematerializer(graph, out, options).run(first_backward_node(graph));
  return out.finish();
}

}  // namespace espalier::passes
