// SPDX-License-Identifier: Apache-2.0
// The parts of a composite op mean the same as the op, and so do their gradients.
#include "espalier/ir/decompose.h"

#include <gtest/gtest.h>

#include <set>

#include "espalier/autodiff/grad.h"
#include "espalier/base/error.h"
#include "tests/support/budget.h"
#include "tests/support/compare.h"
#include "tests/support/op_cases.h"

namespace espalier::testing {
namespace {

using interp::DoubleTensor;

void expect_same_meaning(const ir::Graph& a, const ir::Graph& b,
                         const std::vector<DoubleTensor>& inputs) {
  const auto want = interp::evaluate(a, inputs);
  const auto got = interp::evaluate(b, inputs);
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i].type, want[i].type);
    EXPECT_TRUE(close(got[i].data, want[i].data, 1e-12, 1e-13)) << a.outputs()[i].name;
  }
}

TEST(Decompose, KeepsTheMeaningOfEveryComposite) {
  std::set<ir::Op> seen;
  for (const OpCase& c : op_cases()) {
    if (!has_trait(c.op, ir::kComposite)) continue;
    SCOPED_TRACE(c.name);
    seen.insert(c.op);
    ir::Builder b(c.name);
    const BuiltCase built = build_case(c, b);
    for (const Tensor& y : built.results) {
      for (int32_t i = 0; i < static_cast<int32_t>(b.node(y.value()).types.size()); ++i) {
        b.output(fmt::format("y{}", i), {y.value().node, i});
      }
    }
    const ir::Graph graph = b.finish();
    const ir::Graph parts = decomposed(graph);
    ir::verify(parts);
    for (const ir::Node& node : parts.nodes()) EXPECT_FALSE(has_trait(node.op, ir::kComposite));
    expect_same_meaning(graph, parts, inputs_of(c));
  }
  for (int i = 0; i < ir::kOpCount; ++i) {
    const auto op = static_cast<ir::Op>(i);
    EXPECT_EQ(has_trait(op, ir::kComposite), seen.count(op) == 1) << name(op);
  }
}

/// Gradients of the sum of squares of the results, with respect to the float operands.
ir::Graph with_gradients(const OpCase& c, bool decompose_first) {
  ir::Builder b(c.name);
  const BuiltCase built = build_case(c, b);
  Tensor loss = constant(b, 0.0);
  for (Tensor y : built.results) {
    const ir::Node node = b.node(y.value());
    if (decompose_first && has_trait(node.op, ir::kComposite)) {
      y = {b, ir::decompose(b, node, node.inputs)[0]};
    }
    loss = loss + reduce_sum(reshape(y * y, {-1}), {0});
  }
  std::vector<ir::Value> wrt;
  for (const Tensor& x : built.operands) {
    if (is_float(x.dtype())) wrt.push_back(x.value());
  }
  for (ir::Value g : autodiff::gradients(b, loss.value(), wrt)) b.output("g", g);
  return b.finish();
}

TEST(Decompose, KeepsTheGradientOfEveryComposite) {
  for (const OpCase& c : op_cases()) {
    if (!has_trait(c.op, ir::kComposite)) continue;
    SCOPED_TRACE(c.name);
    expect_same_meaning(with_gradients(c, false), with_gradients(c, true), inputs_of(c));
  }
}

TEST(Decompose, WorksInF32InsideForLowPrecisionOperands) {
  for (const OpCase& c : op_cases(DType::bf16)) {
    if (!has_trait(c.op, ir::kComposite)) continue;
    SCOPED_TRACE(c.name);
    const ir::Graph graph = graph_of(c);
    const ir::Graph parts = decomposed(graph);
    for (const ir::Node& node : parts.nodes()) {
      const bool arithmetic = node.op == ir::Op::exp || node.op == ir::Op::reduce_sum ||
                              node.op == ir::Op::mul || node.op == ir::Op::rsqrt;
      EXPECT_FALSE(arithmetic && node.types[0].dtype == DType::bf16) << name(node.op);
    }
    EXPECT_EQ(parts.type(parts.outputs()[0].value), graph.type(graph.outputs()[0].value));
  }
}

TEST(Decompose, TakesTheScopeOfTheNode) {
  ir::Builder b;
  const Tensor x(b, b.input("x", {DType::f32, {2, 3}}, "batch"));
  ir::Node node;
  {
    ir::Builder::Scope scope(b, "layers.5.norm");
    node = b.node(softmax(x).value());
  }
  ir::Builder::Scope elsewhere(b, "other");
  const auto first = b.graph().nodes().size();
  ir::decompose(b, node, node.inputs);
  for (size_t i = first; i < b.graph().nodes().size(); ++i) {
    EXPECT_EQ(*b.graph().nodes()[i].scope, "layers.5.norm");
  }
  EXPECT_EQ(*b.scope(), "other");
}

TEST(Decompose, RefusesOtherOps) {
  ir::Builder b;
  const Tensor x(b, b.input("x", {DType::f32, {2}}, "batch"));
  const ir::Node node = b.node(exp(x).value());
  EXPECT_THROW(ir::decompose(b, node, node.inputs), Error);
}

}  // namespace
}  // namespace espalier::testing
