// SPDX-License-Identifier: Apache-2.0
// precision: matmul and attention read bf16 or f16; everything else stays f32.
//
//   dot f32 x, f32 w --> dot (convert x), (convert w) : f32     accumulation is f32 in any case
//   attention q, k, v --> convert(attention (convert q), (convert k), (convert v))
//
// The following fold and cse join conversions: one copy of a weight serves forward and backward,
// and a value that only matmuls read is stored in the narrow type.
#include "espalier/ir/builder.h"
#include "espalier/passes/pass.h"

namespace espalier::passes {
namespace {

using ir::Attr;
using ir::Op;
using ir::Value;

class Caster {
 public:
  Caster(const ir::Graph& graph, ir::Builder& out, DType narrow)
      : rewriter_(graph, out), out_(out), narrow_(narrow) {}

  void run() {
    const ir::Graph& graph = rewriter_.source();
    for (size_t i = 0; i < graph.nodes().size(); ++i) {
      const auto id = static_cast<int32_t>(i);
      const ir::Node& node = graph.nodes()[i];
      out_.set_scope(node.scope);
      if (node.op == Op::dot && node.types[0].dtype == DType::f32) {
        cast_dot(id, node);
      } else if (node.op == Op::attention || node.op == Op::attention_grad) {
        cast_attention(id, node);
      } else {
        rewriter_.copy(id);
      }
    }
    rewriter_.copy_outputs();
  }

 private:
  Value cast(Value v, DType dtype) {
    if (out_.type(v).dtype == dtype) return v;
    return out_.add(Op::convert, {v}, {{Attr::dtype, dtype}});
  }

  void cast_dot(int32_t id, const ir::Node& node) {
    ir::Attrs attrs = node.attrs;
    attrs.set(Attr::dtype, DType::f32);
    rewriter_.map({id, 0}, out_.add(Op::dot,
                                    {cast(rewriter_[node.inputs[0]], narrow_),
                                     cast(rewriter_[node.inputs[1]], narrow_)},
                                    attrs));
  }

  void cast_attention(int32_t id, const ir::Node& node) {
    // Masks, seeds and the log-sum-exp (operand 4 of the gradient) keep their types.
    std::vector<Value> inputs;
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      const Value v = rewriter_[node.inputs[i]];
      const bool statistics = node.op == Op::attention_grad && i == 4;
      const bool narrows = out_.type(v).dtype == DType::f32 && !statistics;
      inputs.push_back(narrows ? cast(v, narrow_) : v);
    }
    const Value now = out_.add(node.op, std::move(inputs), node.attrs);
    for (size_t r = 0; r < node.types.size(); ++r) {
      const auto index = static_cast<int32_t>(r);
      rewriter_.map({id, index}, cast({now.node, index}, node.types[r].dtype));
    }
  }

  ir::Rewriter rewriter_;
  ir::Builder& out_;
  DType narrow_;
};

}  // namespace

ir::Graph precision(const ir::Graph& graph, const PassOptions& options) {
  if (options.compute_dtype == DType::f32) return graph;
  ir::Builder out(graph.name());
  Caster(graph, out, options.compute_dtype).run();
  return out.finish();
}

}  // namespace espalier::passes
