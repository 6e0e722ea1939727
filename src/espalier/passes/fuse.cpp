// SPDX-License-Identifier: Apache-2.0
// fuse: groups of elementwise ops, broadcasts, random draws and reductions --> one `fusion` each;
// dot --> matmul, with bias, activation and conversion taken in where nothing else needs a loop.
//
//   %5 = dot; %6 = add %5, bias; %7 = random; %8 = select(...); %9 = add %8, %x; %10 = reduce_sum
//   %9
//   --> %5 = matmul; (%9, %10) = fusion f(%5, bias, seed, step, %x)
//
//   %1 = dot x, w; %2 = dot x, v; %3 = silu %1; %4 = mul %3, %2
//   --> %4 = matmul x, w, v {activation="swiglu"}    where the kernels have it and weights are
//   packed
//
// A value that only other loops need, and that follows from one stored tensor at little cost, is
// computed again there instead of being stored.
#include <algorithm>
#include <map>
#include <memory>
#include <set>

#include "espalier/base/error.h"
#include "espalier/ir/builder.h"
#include "espalier/passes/cluster.h"
#include "espalier/passes/epilogue.h"
#include "espalier/passes/legalize.h"
#include "espalier/passes/pass.h"

namespace espalier::passes {
namespace {

using ir::Attr;
using ir::Node;
using ir::Op;
using ir::Value;

/// Cost of computing an element again, in units of one simple vector instruction.
int recompute_cost(Op op) {
  switch (op) {
    case Op::random_uniform:
      return 8;
    case Op::exp:
    case Op::div:
    case Op::sqrt:
    case Op::rsqrt:
      return 6;
    case Op::log:
    case Op::tanh:
    case Op::erf:
    case Op::sin:
    case Op::cos:
    case Op::pow:
      return 20;
    default:
      return 1;
  }
}
/// Loading an element of a large tensor costs about this much; so does storing it.
constexpr int kRecomputeBudget = 24;
/// A tensor this many times smaller than the value counts as free to load.
constexpr int64_t kSmall = 8;

class Fuser {
 public:
  Fuser(const ir::Graph& graph, const Clusters& clusters, ir::Builder& out,
        const PassOptions& options)
      : graph_(graph),
        clusters_(clusters),
        rewriter_(graph, out),
        out_(out),
        merge_(options.fuse),
        gated_(options.gated),
        uses_(graph.use_counts()),
        stored_(graph.nodes().size(), 0) {}

  void run() {
    decide_stored();
    for (int32_t cluster : clusters_.order()) {
      const auto& members = clusters_.members(cluster);
      if (!is_loop_op(graph_, members.front())) {
        copy_single(members.front());
      } else {
        emit_cluster(cluster);
      }
    }
    rewriter_.copy_outputs();
  }

 private:
  /// Uses of a node's value from outside its cluster: by loops (true) or by anything else (false).
  void decide_stored() {
    std::vector<char> by_loops(graph_.nodes().size(), 0);
    std::vector<char> by_others(graph_.nodes().size(), 0);
    for (size_t i = 0; i < graph_.nodes().size(); ++i) {
      const auto id = static_cast<int32_t>(i);
      const Node& node = graph_.nodes()[i];
      if (node.op == Op::broadcast) continue;  // seen through its own users
      for (Value v : node.inputs) {
        if (!is_loop_op(graph_, id)) {
          by_others[static_cast<size_t>(v.node)] = 1;
          // A broadcast that a kernel reads is a view of its operand.
          by_others[static_cast<size_t>(behind_broadcasts(graph_, v).node)] = 1;
          continue;
        }
        const Value source = behind_broadcasts(graph_, v);
        if (clusters_.of(source.node) != clusters_.of(id)) {
          by_loops[static_cast<size_t>(source.node)] = 1;
        }
      }
    }
    for (const ir::Output& output : graph_.outputs()) {
      by_others[static_cast<size_t>(output.value.node)] = 1;
      by_others[static_cast<size_t>(behind_broadcasts(graph_, output.value).node)] = 1;
    }
    for (size_t i = 0; i < graph_.nodes().size(); ++i) {
      const auto id = static_cast<int32_t>(i);
      if (!is_loop_op(graph_, id)) continue;
      if (by_others[i]) {
        stored_[i] = 1;
      } else if (by_loops[i] && !(merge_ && can_recompute(id))) {
        stored_[i] = 1;
      }
    }
  }

  /// Whether `id` follows from at most one large stored tensor at little cost. Small values that
  /// are needed for it become stored.
  bool can_recompute(int32_t id) {
    const int64_t size = graph_.node(id).types[0].shape.numel();
    if (ir::has_trait(graph_.node(id).op, ir::kReduction)) return false;
    std::set<int32_t> large, small, seen;
    int cost = 0;
    std::vector<int32_t> stack{id};
    while (!stack.empty()) {
      const int32_t n = stack.back();
      stack.pop_back();
      if (!seen.insert(n).second) continue;
      const Node& node = graph_.node(n);
      if (ir::has_trait(node.op, ir::kLeaf) && node.op != Op::input) continue;
      const bool is_small = node.types[0].shape.numel() * kSmall <= size;
      const bool leaf = n != id && (!is_loop_op(graph_, n) || stored_[static_cast<size_t>(n)] ||
                                    is_small || ir::has_trait(node.op, ir::kReduction));
      if (leaf) {
        if (is_small) {
          small.insert(n);
        } else if (is_loop_op(graph_, n) && !stored_[static_cast<size_t>(n)]) {
          return false;  // a large reduction
        } else {
          large.insert(n);
        }
        continue;
      }
      cost += recompute_cost(node.op);
      for (Value v : node.inputs) stack.push_back(behind_broadcasts(graph_, v).node);
    }
    if (large.size() > 1 || small.size() > 6 || cost > kRecomputeBudget) return false;
    for (int32_t n : small) {
      if (is_loop_op(graph_, n)) stored_[static_cast<size_t>(n)] = 1;
    }
    return true;
  }

  void copy_single(int32_t id) {
    const Node& node = graph_.node(id);
    // A broadcast of a value that is not stored lives inside the loops that read it.
    if (node.op == Op::broadcast && !rewriter_.mapped(node.inputs[0])) return;
    if (node.op != Op::dot) {
      rewriter_.copy(id);
      return;
    }
    std::vector<Value> inputs;
    for (Value v : node.inputs) inputs.push_back(rewriter_[v]);
    out_.set_scope(node.scope);
    rewriter_.map({id, 0}, out_.add(Op::matmul, std::move(inputs), node.attrs));
  }

  void emit_cluster(int32_t cluster) {
    std::vector<int32_t> results;
    for (int32_t id : clusters_.members(cluster)) {
      if (stored_[static_cast<size_t>(id)]) results.push_back(id);
    }
    if (results.empty()) return;
    if (merge_ && results.size() == 1) {
      const auto inner = [&](int32_t id) {
        return clusters_.of(id) == cluster && !stored_[static_cast<size_t>(id)];
      };
      auto epilogue = match_epilogue(graph_, uses_, results[0], inner);
      if (!epilogue && gated_) epilogue = match_gated(graph_, uses_, results[0], inner);
      // A bias that only loops compute again is not stored: then this stays a loop too.
      if (epilogue && (!epilogue->bias.defined() || rewriter_.mapped(epilogue->bias))) {
        out_.set_scope(graph_.node(epilogue->dot).scope);
        rewriter_.map({results[0], 0}, add_epilogue_matmul(graph_, *epilogue, rewriter_, out_));
        return;
      }
    }
    Body body(*this, cluster);
    for (int32_t id : results) body.add_result(id);
    std::vector<ir::TensorType> types;
    types.reserve(results.size());
    for (int32_t id : results) types.push_back(graph_.node(id).types[0]);
    std::vector<Value> operands;
    for (Value v : body.operands()) operands.push_back(rewriter_[v]);
    const int64_t index = out_.add_body(std::make_shared<const ir::Graph>(body.finish()));
    out_.set_scope(graph_.node(results[0]).scope);
    const Value fused =
        out_.add_typed(Op::fusion, std::move(operands), {{Attr::body, index}}, std::move(types));
    for (size_t r = 0; r < results.size(); ++r) {
      rewriter_.map({results[r], 0}, {fused.node, static_cast<int32_t>(r)});
    }
  }

  /// The graph inside one fusion: operands are collected first, then the body is built.
  class Body {
   public:
    Body(const Fuser& fuser, int32_t cluster) : fuser_(fuser), cluster_(cluster) {}

    void add_result(int32_t id) {
      results_.push_back(id);
      collect({id, 0}, true);
    }
    const std::vector<Value>& operands() const { return operands_; }

    ir::Graph finish() {
      ir::Builder builder("body");
      std::map<Value, Value> made;
      for (size_t i = 0; i < operands_.size(); ++i) {
        made[operands_[i]] =
            builder.input(fmt::format("{}", i), fuser_.graph_.type(operands_[i]), "operand");
      }
      for (int32_t id : sequence_) {
        const Node& node = fuser_.graph_.node(id);
        std::vector<Value> inputs;
        for (Value v : node.inputs) inputs.push_back(made.at(v));
        ir::Attrs attrs = node.attrs;
        attrs.erase(Attr::remat);
        made[{id, 0}] = builder.add(node.op, std::move(inputs), std::move(attrs));
      }
      for (size_t r = 0; r < results_.size(); ++r) {
        builder.output(fmt::format("{}", r), made.at({results_[r], 0}));
      }
      return builder.finish();
    }

   private:
    void collect(Value v, bool result) {
      const Node& node = fuser_.graph_.node(v);
      const bool leaf = node.op == Op::constant || node.op == Op::iota;
      const bool member =
          is_loop_op(fuser_.graph_, v.node) &&
          (fuser_.clusters_.of(v.node) == cluster_ || !fuser_.stored_[static_cast<size_t>(v.node)]);
      if (!leaf && !member && node.op != Op::broadcast && !result) {
        if (std::find(operands_.begin(), operands_.end(), v) == operands_.end()) {
          operands_.push_back(v);
        }
        return;
      }
      if (!inside_.insert(v.node).second) return;
      for (Value in : node.inputs) collect(in, false);
      sequence_.push_back(v.node);
    }

    const Fuser& fuser_;
    int32_t cluster_;
    std::vector<int32_t> results_;
    std::vector<Value> operands_;
    std::set<int32_t> inside_;
    // Operands before users, in the order of a walk from the results: graphs that mean the same
    // give equal bodies, whatever order they were written in.
    std::vector<int32_t> sequence_;
  };

  const ir::Graph& graph_;
  const Clusters& clusters_;
  ir::Rewriter rewriter_;
  ir::Builder& out_;
  bool merge_;
  bool gated_;
  std::vector<int32_t> uses_;
  std::vector<char> stored_;
};

}  // namespace

ir::Graph fuse(const ir::Graph& graph, const PassOptions& options) {
  const ir::Graph legal = dce(cse(legalize(graph), options), options);
  const Clusters clusters(legal, options.fuse);
  ir::Builder out(graph.name());
  Fuser(legal, clusters, out, options).run();
  const ir::Graph fused = out.finish();
  return dce(fused, options);
}

}  // namespace espalier::passes
