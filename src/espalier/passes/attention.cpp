// SPDX-License-Identifier: Apache-2.0
// attention: finds scaled dot-product attention written from basic ops, or takes the composite
// apart when flash attention is off.
//
//   q,k,v -> transpose -> dot -> * scale -> select(mask) -> softmax -> [dropout] -> dot ->
//   transpose
//   --> attention q, k, v {scale, causal, ...}            (flash)
//   attention --> those basic ops                         (no flash)
//
// Recognized: the arithmetic of ir/decompose.cpp with [batch, seq, heads, head_dim] operands, no
// mask or a causal one, with or without dropout on the probabilities.
#include <cmath>
#include <optional>

#include "espalier/ir/builder.h"
#include "espalier/ir/decompose.h"
#include "espalier/passes/pass.h"

namespace espalier::passes {
namespace {

using ir::Attr;
using ir::Node;
using ir::Op;
using ir::Value;
using Axes = std::vector<int64_t>;

struct Found {
  Value q, k, v;
  double scale = 1.0;
  bool causal = false;
  double rate = 0.0;
  int64_t stream = 0;
  Value seed, step, first;
};

class Matcher {
 public:
  explicit Matcher(const ir::Graph& graph) : graph_(graph) {}

  std::optional<Found> match(const Node& root) const {
    Found found;
    Value probabilities, scores;
    const bool ok = is_heads_transpose(root) &&
                    match_output_dot(root.inputs[0], probabilities, found) &&
                    match_dropout(probabilities, found) && match_softmax(probabilities, scores) &&
                    match_mask(scores, found) && match_scores(scores, found);
    if (!ok) return std::nullopt;
    return found;
  }

 private:
  const Node& node(Value v) const { return graph_.node(v); }
  bool is(Value v, Op op) const { return node(v).op == op; }
  std::optional<double> splat(Value v) const {
    if (!is(v, Op::constant)) return std::nullopt;
    return node(v).attrs.real(Attr::value);
  }
  static bool is_heads_transpose(const Node& n) {
    return n.op == Op::transpose && n.attrs.integers(Attr::permutation) == Axes{0, 2, 1, 3};
  }
  bool is_dot(Value v, const Axes& lhs_contract, const Axes& rhs_contract) const {
    const Node& n = node(v);
    return n.op == Op::dot && n.attrs.has(Attr::lhs_batch) &&
           n.attrs.integers(Attr::lhs_batch) == Axes{0, 1} &&
           n.attrs.integers(Attr::rhs_batch) == Axes{0, 1} &&
           n.attrs.integers(Attr::lhs_contract) == lhs_contract &&
           n.attrs.integers(Attr::rhs_contract) == rhs_contract;
  }
  /// mul with a splat on either side.
  bool is_scaled(Value v, Value& x, double& factor) const {
    if (!is(v, Op::mul)) return false;
    for (int side = 0; side < 2; ++side) {
      const auto c = splat(node(v).inputs[static_cast<size_t>(1 - side)]);
      if (!c) continue;
      x = node(v).inputs[static_cast<size_t>(side)];
      factor = *c;
      return true;
    }
    return false;
  }

  bool match_output_dot(Value v, Value& probabilities, Found& found) const {
    if (!is_dot(v, {3}, {2}) || !is_heads_transpose(node(node(v).inputs[1]))) return false;
    probabilities = node(v).inputs[0];
    found.v = node(node(v).inputs[1]).inputs[0];
    return true;
  }

  bool match_dropout(Value& p, Found& found) const {
    if (!is(p, Op::select)) return true;
    const Node& n = node(p);
    const Node& keep = node(n.inputs[0]);
    double factor = 0.0;
    Value kept;
    if (keep.op != Op::ge || !is(keep.inputs[0], Op::random_uniform) || !splat(keep.inputs[1]) ||
        splat(n.inputs[2]) != 0.0 || !is_scaled(n.inputs[1], kept, factor)) {
      return false;
    }
    const Node& random = node(keep.inputs[0]);
    if (random.attrs.has(Attr::cut)) return false;
    found.rate = *splat(keep.inputs[1]);
    if (std::abs(factor * (1.0 - found.rate) - 1.0) > 1e-6) return false;
    found.rate = 1.0 - 1.0 / factor;
    found.stream = random.attrs.integer(Attr::id);
    found.seed = random.inputs[0];
    found.step = random.inputs[1];
    if (random.inputs.size() > 2) found.first = random.inputs[2];
    p = kept;
    return true;
  }

  /// The operand of a broadcast of one number a row, or nothing.
  std::optional<Value> per_row(Value v) const {
    const Node& n = node(v);
    if (n.op != Op::broadcast || n.attrs.integers(Attr::axes) != Axes{0, 1, 2}) return std::nullopt;
    return n.inputs[0];
  }

  bool match_softmax(Value p, Value& scores) const {
    if (!is(p, Op::div)) return false;
    const Value e = node(p).inputs[0];
    const auto sum = per_row(node(p).inputs[1]);
    if (!sum || !is(*sum, Op::reduce_sum) || node(*sum).inputs[0] != e || !is(e, Op::exp)) {
      return false;
    }
    const Value shifted = node(e).inputs[0];
    if (!is(shifted, Op::sub)) return false;
    scores = node(shifted).inputs[0];
    auto top = per_row(node(shifted).inputs[1]);
    if (!top) return false;
    if (is(*top, Op::stop_gradient)) top = node(*top).inputs[0];
    return is(*top, Op::reduce_max) && node(*top).inputs[0] == scores &&
           node(*top).attrs.integers(Attr::axes) == Axes{3};
  }

  bool match_mask(Value& scores, Found& found) const {
    if (!is(scores, Op::select)) return true;
    const Node& n = node(scores);
    const auto masked = splat(n.inputs[2]);
    const Node& over = node(n.inputs[0]);
    if (!masked || *masked > -1e9 || over.op != Op::broadcast ||
        over.attrs.integers(Attr::axes) != Axes{2, 3}) {
      return false;
    }
    const Node& visible = node(over.inputs[0]);
    if (visible.op != Op::le && visible.op != Op::ge) return false;
    const size_t key = visible.op == Op::le ? 0 : 1;
    const Node& k = node(visible.inputs[key]);
    const Node& q = node(visible.inputs[1 - key]);
    // Squares only: an offset between queries and keys comes with the composite op.
    if (k.op != Op::iota || q.op != Op::iota || k.attrs.integer(Attr::axis) != 1 ||
        q.attrs.integer(Attr::axis) != 0 || k.types[0].shape[0] != k.types[0].shape[1]) {
      return false;
    }
    found.causal = true;
    scores = n.inputs[1];
    return true;
  }

  bool match_scores(Value scores, Found& found) const {
    Value product = scores;
    if (!is_scaled(scores, product, found.scale)) product = scores;
    if (!is_dot(product, {3}, {3})) return false;
    const Node& q = node(node(product).inputs[0]);
    const Node& k = node(node(product).inputs[1]);
    if (!is_heads_transpose(q) || !is_heads_transpose(k)) return false;
    found.q = q.inputs[0];
    found.k = k.inputs[0];
    return true;
  }

  const ir::Graph& graph_;
};

Value build(const Found& found, ir::Rewriter& rewriter, ir::Builder& out) {
  std::vector<Value> inputs{rewriter[found.q], rewriter[found.k], rewriter[found.v]};
  ir::Attrs attrs{{Attr::scale, found.scale}};
  if (found.causal) attrs.set(Attr::causal, int64_t{1});
  if (found.rate > 0.0) {
    attrs.set(Attr::rate, found.rate);
    attrs.set(Attr::id, found.stream);
    inputs.push_back(rewriter[found.seed]);
    inputs.push_back(rewriter[found.step]);
    if (found.first.defined()) inputs.push_back(rewriter[found.first]);
  }
  return out.add(Op::attention, std::move(inputs), std::move(attrs));
}

}  // namespace

ir::Graph attention(const ir::Graph& graph, const PassOptions& options) {
  ir::Builder out(graph.name());
  ir::Rewriter rewriter(graph, out);
  const Matcher matcher(graph);
  for (size_t i = 0; i < graph.nodes().size(); ++i) {
    const auto id = static_cast<int32_t>(i);
    const Node& node = graph.nodes()[i];
    out.set_scope(node.scope);
    if (node.op == Op::attention && !options.flash) {
      std::vector<Value> inputs;
      for (Value v : node.inputs) inputs.push_back(rewriter[v]);
      const std::vector<Value> made = ir::decompose(out, node, inputs);
      for (size_t r = 0; r < made.size(); ++r) {
        rewriter.map({id, static_cast<int32_t>(r)}, made[r]);
      }
      continue;
    }
    if (options.flash && node.op == Op::transpose) {
      if (const auto found = matcher.match(node)) {
        rewriter.map({id, 0}, build(*found, rewriter, out));
        continue;
      }
    }
    rewriter.copy(id);
  }
  rewriter.copy_outputs();
  return out.finish();
}

}  // namespace espalier::passes
