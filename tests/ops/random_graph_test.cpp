// SPDX-License-Identifier: Apache-2.0
// The random graphs themselves: valid, finite, reproducible, varied, with a text that reads back.
#include "tests/support/random_graph.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <span>

#include "tests/support/compare.h"

namespace espalier::testing {
namespace {

TEST(RandomGraphs, AreValidFiniteAndReadBack) {
  std::set<ir::Op> seen;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(seed);
    const ir::Graph graph = random_graph(seed, {.gradients = seed % 2 == 1});
    ir::verify(graph);
    EXPECT_TRUE(ir::equal(graph, ir::parse(ir::print(graph))));
    EXPECT_TRUE(ir::equal(graph, random_graph(seed, {.gradients = seed % 2 == 1})));
    for (const ir::Node& node : graph.nodes()) seen.insert(node.op);
    for (const auto& output : interp::evaluate(graph, random_inputs(graph, seed))) {
      for (double x : output.data) EXPECT_LT(std::abs(x), 1e6);
    }
  }
  const std::set<ir::Op> missing{ir::Op::floor,      ir::Op::logical_not, ir::Op::logical_and,
                                 ir::Op::logical_or, ir::Op::fusion,      ir::Op::matmul};
  for (int i = 0; i < ir::kOpCount; ++i) {
    const auto op = static_cast<ir::Op>(i);
    EXPECT_TRUE(seen.count(op) == 1 || missing.count(op) == 1 || has_trait(op, ir::kMesh))
        << name(op);
  }
}

TEST(RandomGraphs, GradientsMatchDifferencesAlongADirection) {
  int checked = 0;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    SCOPED_TRACE(seed);
    const ir::Graph graph = random_graph(seed, {.gradients = true});
    size_t loss = 0;
    while (graph.outputs()[loss].name != "loss") ++loss;
    const auto forward =
        std::span(graph.nodes()).first(static_cast<size_t>(graph.outputs()[loss].value.node));
    const bool stops = std::any_of(forward.begin(), forward.end(), [](const ir::Node& node) {
      return node.op == ir::Op::stop_gradient;
    });
    if (stops) continue;
    ++checked;
    const std::vector<interp::DoubleTensor> inputs = random_inputs(graph, seed);

    // Gradients are of the float inputs that exist from the start, then of the weights.
    std::vector<size_t> floats;
    for (const char* role : {"start", "parameter"}) {
      for (size_t i = 0; i < inputs.size(); ++i) {
        const ir::Node& node = graph.node(graph.inputs()[i]);
        const bool weight = node.attrs.text(ir::Attr::role) == "parameter";
        if (is_float(node.types[0].dtype) && weight == (role[0] == 'p')) floats.push_back(i);
      }
    }
    std::rotate(floats.begin(), floats.begin() + 1, floats.begin() + 6);  // the state comes last
    const double h = 1e-6;
    std::vector<interp::DoubleTensor> moved[2] = {inputs, inputs};
    const auto values = interp::evaluate(graph, inputs);
    double along = 0.0;
    double scale = 1.0;
    for (size_t g = 0; g < floats.size(); ++g) {
      Random random(seed, 1000 + g);
      const auto& gradient = values[loss + 1 + g].data;
      for (size_t i = 0; i < gradient.size(); ++i) {
        const double d = random.normal();
        along += d * gradient[i];
        scale += std::abs(d * gradient[i]);
        moved[0][floats[g]].data[i] += h * d;
        moved[1][floats[g]].data[i] -= h * d;
      }
    }
    const double up = interp::evaluate(graph, moved[0])[loss].data[0];
    const double down = interp::evaluate(graph, moved[1])[loss].data[0];
    EXPECT_LT(scale, 1e6);
    EXPECT_NEAR(along, (up - down) / (2.0 * h), 1e-6 * scale);
  }
  EXPECT_GT(checked, 40);
}

}  // namespace
}  // namespace espalier::testing
