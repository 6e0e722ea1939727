// SPDX-License-Identifier: Apache-2.0
// prepack: dot x, weight --> dot x, weight {packed=1} where no result replaces the weight: it is
// laid out for the kernel once instead of at every run, and converted then too.
//
//   dot x, convert(w : bf16) : f32 --> dot x, w {packed=1}                 a weight stored narrow
//   dot x, convert(w : f32) : bf16 --> dot x, w {packed=1, rounded=bf16}   a product computed
//   narrow
#include <algorithm>
#include <optional>

#include "espalier/ir/builder.h"
#include "espalier/passes/pass.h"

namespace espalier::passes {
namespace {

using ir::Attr;
using ir::Node;
using ir::Op;
using ir::Value;

class Prepacker {
 public:
  Prepacker(const ir::Graph& graph, ir::Builder& out) : rewriter_(graph, out), out_(out) {}

  void run() {
    const ir::Graph& graph = rewriter_.source();
    for (size_t i = 0; i < graph.nodes().size(); ++i) {
      const auto id = static_cast<int32_t>(i);
      const Node& node = graph.nodes()[i];
      out_.set_scope(node.scope);
      if (node.op != Op::dot || !pack(id, node)) rewriter_.copy(id);
    }
    rewriter_.copy_outputs();
  }

 private:
  /// The weight of a product: a parameter behind views, and perhaps one conversion.
  struct Weight {
    int32_t parameter = -1;
    int32_t convert = -1;  // of the conversion, or -1
  };

  std::optional<Weight> weight_behind(Value v) const {
    const ir::Graph& graph = rewriter_.source();
    Weight found;
    for (;;) {
      const Node& node = graph.node(v);
      const bool converts = node.op == Op::convert && found.convert < 0;
      if (!converts && !ir::has_trait(node.op, ir::kView)) break;
      if (converts) found.convert = v.node;
      v = node.inputs[0];
    }
    const Node& node = graph.node(v);
    if (node.op != Op::input || node.attrs.text(Attr::role) != "parameter") return std::nullopt;
    found.parameter = v.node;
    const bool updated = std::any_of(graph.outputs().begin(), graph.outputs().end(),
                                     [&](const ir::Output& o) { return o.alias == v.node; });
    if (updated || !is_float(node.types[0].dtype)) return std::nullopt;
    return found;
  }

  bool pack(int32_t id, const Node& node) {
    const std::optional<Weight> weight = weight_behind(node.inputs[1]);
    if (!weight) return false;
    ir::Attrs attrs = node.attrs;
    attrs.set(Attr::packed, int64_t{1});
    Value right = rewriter_[node.inputs[1]];
    if (weight->convert >= 0) {
      const ir::Graph& graph = rewriter_.source();
      const DType stored = graph.node(weight->parameter).types[0].dtype;
      const DType used = graph.type(node.inputs[1]).dtype;
      if (stored == DType::f64 || used == DType::f64) return false;
      if (used != DType::f32) attrs.set(Attr::rounded, used);
      if (!attrs.has(Attr::dtype)) attrs.set(Attr::dtype, node.types[0].dtype);
      right = as_stored(node.inputs[1]);
    }
    rewriter_.map({id, 0}, out_.add(Op::dot, {rewriter_[node.inputs[0]], right}, attrs));
    return true;
  }

  /// The same views over the parameter in the type it is stored in.
  Value as_stored(Value v) {
    const Node& node = rewriter_.source().node(v);
    if (node.op == Op::input) return rewriter_[v];
    const Value inner = as_stored(node.inputs[0]);
    return node.op == Op::convert ? inner : out_.add(node.op, {inner}, node.attrs);
  }

  ir::Rewriter rewriter_;
  ir::Builder& out_;
};

}  // namespace

ir::Graph prepack(const ir::Graph& graph, const PassOptions&) {
  ir::Builder out(graph.name());
  Prepacker(graph, out).run();
  return out.finish();
}

}  // namespace espalier::passes
