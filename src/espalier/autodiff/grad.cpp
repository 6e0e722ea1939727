// SPDX-License-Identifier: Apache-2.0
#include "espalier/autodiff/grad.h"

#include <algorithm>
#include <array>
#include <map>

#include "espalier/autodiff/rules.h"
#include "espalier/base/error.h"

namespace espalier::autodiff {
namespace {

using ir::Builder;
using ir::Node;
using ir::Op;
using ir::Value;

/// One reverse sweep over the nodes [first, end of the graph at its start).
class Sweep {
 public:
  Sweep(Builder& builder, int32_t first, std::span<const Tensor> wrt)
      : builder_(builder),
        first_(first),
        depends_(builder.graph().nodes().size() - static_cast<size_t>(first), false) {
    for (const Tensor& t : wrt) wrt_.push_back(t.value());
    std::sort(wrt_.begin(), wrt_.end());
    for (size_t i = 0; i < depends_.size(); ++i) {
      const Node& node = builder_.graph().node(first_ + static_cast<int32_t>(i));
      depends_[i] = !blocks_gradient(node) && std::any_of(node.inputs.begin(), node.inputs.end(),
                                                          [&](Value v) { return needs(v); });
    }
  }

  void arrive(Value value, Tensor grad) {
    Tensor& sum = grads_[value];
    sum = sum.defined() ? sum + grad : grad;
  }

  void run() {
    const Shared<std::string> outer = builder_.scope();
    for (auto i = static_cast<int32_t>(depends_.size()); i-- > 0;) {
      if (depends_[static_cast<size_t>(i)]) visit(first_ + i);
    }
    builder_.set_scope(outer);
  }

  Tensor grad(Value value) const {
    const auto found = grads_.find(value);
    return found == grads_.end() ? Tensor() : found->second;
  }

 private:
  /// The value is wanted, or a wanted one goes into it.
  bool needs(Value v) const {
    if (!is_float(builder_.type(v).dtype)) return false;
    if (std::binary_search(wrt_.begin(), wrt_.end(), v)) return true;
    return v.node >= first_ && depends_[static_cast<size_t>(v.node - first_)];
  }

  void visit(int32_t id) {
    Use use{builder_, builder_.graph().node(id), {}, {}, {}, {}};
    bool arrived = false;
    for (size_t i = 0; i < use.node.types.size(); ++i) {
      const Value result{id, static_cast<int32_t>(i)};
      use.out.emplace_back(builder_, result);
      use.grads.push_back(grad(result));
      arrived = arrived || use.grads.back().defined();
    }
    if (!arrived) return;
    for (Value v : use.node.inputs) {
      use.in.emplace_back(builder_, v);
      use.needs.push_back(needs(v));
    }
    const Rule rule = rule_of(use.node.op);
    ESPALIER_CHECK(rule != nullptr, ErrorKind::unsupported, "autodiff",
                   "{} has no gradient: %{} of type {} in scope \"{}\"", name(use.node.op), id,
                   use.node.types[0].str(), *use.node.scope);
    builder_.set_scope(use.node.scope);
    const Grads grads = rule(use);
    ESPALIER_ASSERT(grads.size() == use.node.inputs.size());
    for (size_t i = 0; i < grads.size(); ++i) {
      if (!grads[i].defined() || !use.needs[i]) continue;
      ESPALIER_CHECK(grads[i].type() == use.in[i].type(), ErrorKind::internal, "autodiff",
                     "the rule of {} gives {} for an operand of type {}", name(use.node.op),
                     grads[i].type().str(), use.in[i].type().str());
      arrive(use.node.inputs[i], grads[i]);
    }
  }

  Builder& builder_;
  const int32_t first_;
  std::vector<Value> wrt_;  // sorted
  std::vector<bool> depends_;
  std::map<Value, Tensor> grads_;
};

}  // namespace

Rule rule_of(Op op) {
  static const auto table = [] {
    std::array<Rule, ir::kOpCount> rules{};
    for (const auto& family : {elementwise_rules(), structure_rules(), composite_rules()}) {
      for (const RuleRow& row : family) rules[static_cast<size_t>(row.op)] = row.rule;
    }
    return rules;
  }();
  return table[static_cast<size_t>(op)];
}

bool blocks_gradient(const Node& node) {
  if (node.op == Op::floor || node.op == Op::stop_gradient || node.inputs.empty()) return true;
  return std::none_of(node.types.begin(), node.types.end(),
                      [](const ir::TensorType& type) { return is_float(type.dtype); });
}

std::vector<Tensor> pull_back(Builder& builder, int32_t first, std::span<const Tensor> results,
                              std::span<const Tensor> grads, std::span<const Tensor> wrt) {
  Sweep sweep(builder, first, wrt);
  for (size_t i = 0; i < results.size(); ++i) {
    if (grads[i].defined()) sweep.arrive(results[i].value(), grads[i]);
  }
  sweep.run();
  std::vector<Tensor> found;
  for (const Tensor& t : wrt) found.push_back(sweep.grad(t.value()));
  return found;
}

std::vector<Value> gradients(Builder& builder, Value loss, std::span<const Value> wrt) {
  const ir::TensorType type = builder.type(loss);
  ESPALIER_CHECK(type.shape.rank() == 0 && is_float(type.dtype), ErrorKind::user, "autodiff",
                 "the loss is a float scalar, got {}", type.str());
  std::vector<Tensor> targets;
  for (Value v : wrt) {
    ESPALIER_CHECK(is_float(builder.type(v).dtype), ErrorKind::user, "autodiff",
                   "no gradient with respect to {} of type {}", name(builder.node(v).op),
                   builder.type(v).str());
    targets.emplace_back(builder, v);
  }
  const Tensor result(builder, loss);
  const Tensor one = constant(builder, 1.0, type.dtype);
  std::vector<Value> values;
  for (const Tensor& found : pull_back(builder, 0, {&result, 1}, {&one, 1}, targets)) {
    const ir::TensorType& want = builder.type(wrt[values.size()]);
    values.push_back(found.defined() ? found.value()
                                     : builder.constant(0.0, want.dtype, want.shape));
  }
  return values;
}

}  // namespace espalier::autodiff
