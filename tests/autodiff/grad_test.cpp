// SPDX-License-Identifier: Apache-2.0
// Every rule against central differences in double, with a random cotangent.
#include "espalier/autodiff/grad.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "espalier/autodiff/rules.h"
#include "espalier/base/error.h"
#include "tests/support/compare.h"
#include "tests/support/op_cases.h"

namespace espalier::autodiff {
namespace {

using interp::DoubleTensor;
using testing::OpCase;
using testing::Random;

DoubleTensor doubles(Shape shape, std::vector<double> data) {
  return {ir::TensorType{DType::f64, std::move(shape)}, std::move(data)};
}

/// loss = sum of cotangent * result over the float results, and its gradients by the table.
struct GradGraphs {
  ir::Graph loss;                // operands and cotangents -> loss
  ir::Graph gradients;           // the same inputs -> gradient of each float operand
  std::vector<size_t> operands;  // which operands those are
};

GradGraphs grad_graphs(const OpCase& c) {
  GradGraphs made;
  for (bool backward : {false, true}) {
    ir::Builder b(c.name);
    const testing::BuiltCase built = testing::build_case(c, b);
    Tensor loss = constant(b, 0.0, DType::f64);
    for (size_t i = 0; i < built.results.size(); ++i) {
      const Tensor& y = built.results[i];
      const Tensor cotangent(b, b.input(fmt::format("c{}", i), {DType::f64, y.shape()}, "batch"));
      std::vector<int64_t> axes(static_cast<size_t>(y.rank()));
      std::iota(axes.begin(), axes.end(), 0);
      loss = loss + reduce_sum(convert(y, DType::f64) * cotangent, axes);
    }
    if (!backward) {
      b.output("loss", loss.value());
      made.loss = b.finish();
      continue;
    }
    std::vector<ir::Value> wrt;
    for (size_t i = 0; i < built.operands.size(); ++i) {
      if (!is_float(built.operands[i].dtype())) continue;
      wrt.push_back(built.operands[i].value());
      made.operands.push_back(i);
    }
    for (ir::Value v : gradients(b, loss.value(), wrt)) b.output("g", v);
    made.gradients = b.finish();
    ir::verify(made.gradients);
  }
  return made;
}

std::vector<DoubleTensor> with_cotangents(const OpCase& c, const ir::Graph& graph) {
  std::vector<DoubleTensor> inputs = testing::inputs_of(c);
  const std::vector<int32_t> ids = graph.inputs();
  for (size_t i = inputs.size(); i < ids.size(); ++i) {
    Random random(99, i);
    DoubleTensor cotangent{graph.node(ids[i]).types[0], {}};
    cotangent.data.resize(static_cast<size_t>(cotangent.type.shape.numel()));
    for (double& x : cotangent.data) x = random.normal();
    inputs.push_back(std::move(cotangent));
  }
  return inputs;
}

/// d loss(x + t d) / dt at 0 by central differences, d moving one operand.
double central_difference(const ir::Graph& loss, std::vector<DoubleTensor> inputs, size_t operand,
                          const std::vector<double>& direction) {
  const std::vector<double> x = inputs[operand].data;
  double largest = 1.0;
  for (double v : x) largest = std::max(largest, std::abs(v));
  const double h = std::cbrt(0x1p-52) * largest;
  double values[2];
  for (int side : {0, 1}) {
    for (size_t i = 0; i < x.size(); ++i) {
      inputs[operand].data[i] = x[i] + (side == 0 ? h : -h) * direction[i];
    }
    values[side] = interp::evaluate(loss, inputs)[0].data[0];
  }
  return (values[0] - values[1]) / (2.0 * h);
}

/// Unit vectors on small operands, a few random directions on large ones.
std::vector<std::vector<double>> directions(size_t size) {
  std::vector<std::vector<double>> all;
  Random random(5);
  for (size_t i = 0; i < std::min<size_t>(size, size <= 64 ? size : 6); ++i) {
    std::vector<double> d(size, 0.0);
    if (size <= 64) {
      d[i] = 1.0;
    } else {
      for (double& v : d) v = random.normal();
    }
    all.push_back(std::move(d));
  }
  return all;
}

TEST(Gradients, OfEveryOpCaseMatchCentralDifferences) {
  std::set<std::pair<ir::Op, size_t>> seen;      // operands of ops
  std::set<std::pair<ir::Op, size_t>> not_flat;  // those with a gradient that is not all zero
  for (const OpCase& c : testing::op_cases()) {
    SCOPED_TRACE(c.name);
    const GradGraphs graphs = grad_graphs(c);
    const std::vector<DoubleTensor> inputs = with_cotangents(c, graphs.loss);
    const std::vector<DoubleTensor> got = interp::evaluate(graphs.gradients, inputs);
    for (size_t g = 0; g < got.size(); ++g) {
      const size_t operand = graphs.operands[g];
      std::vector<double> want;
      std::vector<double> along;
      for (const auto& d : directions(inputs[operand].data.size())) {
        const bool stopped = c.op == ir::Op::stop_gradient;
        want.push_back(stopped ? 0.0 : central_difference(graphs.loss, inputs, operand, d));
        along.push_back(std::inner_product(d.begin(), d.end(), got[g].data.begin(), 0.0));
        if (want.back() != 0.0) not_flat.emplace(c.op, operand);
      }
      seen.emplace(c.op, operand);
      // Truncation h^2 f'''/6 and rounding eps |loss| / h are both near 1e-10 of values near 1.
      EXPECT_TRUE(testing::close(along, want, 1e-7, 2e-8)) << "operand " << operand;
    }
  }
  for (const auto& [op, operand] : seen) {
    const bool has_gradient = rule_of(op) != nullptr || op == ir::Op::random_uniform;
    EXPECT_EQ(not_flat.count({op, operand}), has_gradient ? 1u : 0u) << name(op) << " " << operand;
  }
}

TEST(Gradients, EveryRuleHasACase) {
  std::set<ir::Op> seen;
  for (const OpCase& c : testing::op_cases()) seen.insert(c.op);
  for (int i = 0; i < ir::kOpCount; ++i) {
    const auto op = static_cast<ir::Op>(i);
    EXPECT_TRUE(rule_of(op) == nullptr || seen.count(op) == 1) << name(op);
  }
}

/// How many nodes of each op a gradient adds to a graph.
struct Added {
  std::map<ir::Op, int> count;
  std::vector<ir::Node> nodes;
  Added(const ir::Builder& b, size_t before) {
    for (size_t i = before; i < b.graph().nodes().size(); ++i) {
      nodes.push_back(b.graph().nodes()[i]);
      ++count[nodes.back().op];
    }
  }
};

TEST(Cost, LinearNeedsTwoDotsAndNoTranspose) {
  ir::Builder b;
  const Tensor x(b, b.input("x", {DType::f32, {4, 6, 5}}, "batch"));
  const Tensor w(b, b.input("w", {DType::f32, {3, 5}}, "parameter"));
  Tensor loss;
  {
    ir::Builder::Scope scope(b, "layers.0");
    loss = mean(linear(x, w), {0, 1, 2});
  }
  const size_t before = b.graph().nodes().size();
  const ir::Value wrt[]{x.value(), w.value()};
  const auto grads = gradients(b, loss.value(), wrt);
  const Added added(b, before);
  EXPECT_EQ(added.count.at(ir::Op::dot), 2);
  EXPECT_EQ(added.count.size(), 2u) << "constants and dots only";
  EXPECT_EQ(b.node(grads[1]).inputs[1], x.value());
  EXPECT_EQ(b.type(grads[1]).shape, (Shape{3, 5}));
  for (const ir::Node& node : added.nodes) {
    EXPECT_TRUE(node.op != ir::Op::dot || *node.scope == "layers.0") << *node.scope;
  }
}

TEST(Cost, AttentionDotsNeedNoTranspose) {
  ir::Builder b;
  const Tensor q(b, b.input("q", {DType::f32, {2, 2, 3, 4}}, "batch"));
  const Tensor k(b, b.input("k", {DType::f32, {2, 2, 5, 4}}, "batch"));
  const Tensor p = dot(q, k, {{0, 1}, {0, 1}, {3}, {3}});
  const Tensor out = dot(p, k, {{0, 1}, {0, 1}, {3}, {2}});
  const Tensor loss = reduce_sum(out * out, {0, 1, 2, 3});
  const size_t before = b.graph().nodes().size();
  const ir::Value wrt[]{q.value(), k.value()};
  gradients(b, loss.value(), wrt);
  const Added added(b, before);
  EXPECT_EQ(added.count.at(ir::Op::dot), 4);
  EXPECT_EQ(added.count.count(ir::Op::transpose), 0u);
}

TEST(Cost, UnusedPathsGetNoNodes) {
  ir::Builder b;
  const Tensor x(b, b.input("x", {DType::f32, {3}}, "batch"));
  const Tensor w(b, b.input("w", {DType::f32, {3}}, "parameter"));
  const Tensor frozen = exp(tanh(x));  // does not depend on w
  const Tensor unused = sqrt(w);       // does not reach the loss
  const Tensor loss = reduce_sum(frozen * w, {0});
  const size_t before = b.graph().nodes().size();
  const ir::Value wrt[]{w.value()};
  const auto grads = gradients(b, loss.value(), wrt);
  EXPECT_EQ(grads[0], frozen.value()) << "1 * frozen is frozen itself";
  for (const ir::Node& node : Added(b, before).nodes) EXPECT_EQ(node.op, ir::Op::constant);
  EXPECT_TRUE(unused.defined());
}

TEST(Gradients, OfWhatTheLossDoesNotDependOnAreZeros) {
  ir::Builder b;
  const Tensor x(b, b.input("x", {DType::f32, {3}}, "batch"));
  const Tensor y(b, b.input("y", {DType::bf16, {2}}, "batch"));
  const Tensor loss = reduce_sum(stop_gradient(x) * 2.0, {0});
  const ir::Value wrt[]{x.value(), y.value()};
  const auto grads = gradients(b, loss.value(), wrt);
  for (size_t i : {0, 1}) {
    EXPECT_EQ(b.node(grads[i]).op, ir::Op::constant);
    EXPECT_EQ(b.node(grads[i]).attrs.real(ir::Attr::value), 0.0);
    EXPECT_EQ(b.type(grads[i]), b.type(wrt[i]));
  }
}

TEST(Gradients, OfAnIntermediateValueAndOfTheLossItself) {
  ir::Builder b;
  const Tensor x(b, b.input("x", {DType::f64, {}}, "batch"));
  const Tensor y = x * x;
  const Tensor loss = y * y + x;
  const ir::Value wrt[]{x.value(), y.value(), loss.value()};
  for (ir::Value v : gradients(b, loss.value(), wrt)) b.output("g", v);
  const auto got =
      interp::evaluate(b.finish(), std::vector<DoubleTensor>{{{DType::f64, {}}, {3.0}}});
  EXPECT_EQ(got[0].data[0], 4 * 27.0 + 1.0);
  EXPECT_EQ(got[1].data[0], 18.0);
  EXPECT_EQ(got[2].data[0], 1.0);
}

TEST(Gradients, ReluHasSlopeZeroAtZero) {
  ir::Builder b;
  const Tensor x(b, b.input("x", {DType::f64, {3}}, "batch"));
  const ir::Value wrt[]{x.value()};
  b.output("g", gradients(b, reduce_sum(relu(x), {0}).value(), wrt)[0]);
  const DoubleTensor input = doubles({3}, {-1, 0, 1});
  const auto got = interp::evaluate(b.finish(), {&input, 1});
  EXPECT_TRUE(testing::same(got[0].data, std::vector<double>{0, 0, 1}));
}

TEST(Gradients, ThroughLowPrecisionHaveTheOperandsType) {
  ir::Builder b;
  const Tensor x(b, b.input("x", {DType::f32, {2, 3}}, "batch"));
  const Tensor w(b, b.input("w", {DType::f32, {4, 3}}, "parameter"));
  const Tensor y =
      dot(convert(x, DType::bf16), convert(w, DType::bf16), {{}, {}, {1}, {1}}, DType::f32);
  const ir::Value wrt[]{x.value(), w.value()};
  for (ir::Value v : gradients(b, reduce_sum(y * y, {0, 1}).value(), wrt)) {
    EXPECT_EQ(b.type(v).dtype, DType::f32);
  }
}

TEST(Gradients, OfTheLogSumExpGoThroughTheParts) {
  const testing::OpCase c{
      "lse",
      ir::Op::attention,
      {{{DType::f64, {1, 2, 1, 2}}}, {{DType::f64, {1, 3, 1, 2}}}, {{DType::f64, {1, 3, 1, 2}}}},
      [](const std::vector<Tensor>& x) {
        const Tensor out = scaled_dot_product_attention(x[0], x[1], x[2], {});
        return std::vector<Tensor>{out, {out.builder(), {out.value().node, 1}}};
      }};
  const GradGraphs graphs = grad_graphs(c);
  const auto inputs = with_cotangents(c, graphs.loss);
  const auto got = interp::evaluate(graphs.gradients, inputs);
  for (size_t operand = 0; operand < 3; ++operand) {
    std::vector<double> want;
    for (const auto& d : directions(inputs[operand].data.size())) {
      want.push_back(central_difference(graphs.loss, inputs, operand, d));
    }
    EXPECT_TRUE(testing::close(got[operand].data, want, 1e-7, 1e-8));
  }
}

void expect_error(ErrorKind kind, const std::string& fragment, const std::function<void()>& work) {
  try {
    work();
    ADD_FAILURE() << "no error: " << fragment;
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind);
    EXPECT_NE(std::string(error.what()).find(fragment), std::string::npos) << error.what();
  }
}

TEST(Errors, NameWhatIsWrong) {
  ir::Builder b;
  const ir::Value x = b.input("x", {DType::f32, {3}}, "batch");
  const ir::Value i = b.input("i", {DType::i32, {}}, "batch");
  const ir::Value loss =
      b.add(ir::Op::reduce_sum, {x}, {{ir::Attr::axes, std::vector<int64_t>{0}}});
  expect_error(ErrorKind::user, "the loss is a float scalar, got f32[3]", [&] {
    gradients(b, x, {&x, 1});
  });
  expect_error(ErrorKind::user, "the loss is a float scalar, got i32[]", [&] {
    gradients(b, i, {&x, 1});
  });
  expect_error(ErrorKind::user, "no gradient with respect to input of type i32[]", [&] {
    gradients(b, loss, {&i, 1});
  });
  b.set_scope("layers.1");
  const ir::Value y = b.add(ir::Op::matmul, {x, x},
                            {{ir::Attr::lhs_contract, std::vector<int64_t>{0}},
                             {ir::Attr::rhs_contract, std::vector<int64_t>{0}}});
  expect_error(ErrorKind::unsupported,
               "[autodiff] matmul has no gradient: %3 of type f32[] in scope \"layers.1\"", [&] {
                 gradients(b, y, {&x, 1});
               });
}

}  // namespace
}  // namespace espalier::autodiff
