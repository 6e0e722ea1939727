// SPDX-License-Identifier: Apache-2.0
// The budgets: wide enough for a correct f32 machine, narrow enough to notice a wrong element.
#include "tests/support/budget.h"

#include <gtest/gtest.h>

#include "tests/support/compare.h"
#include "tests/support/op_cases.h"
#include "tests/support/random_graph.h"

namespace espalier::testing {
namespace {

using interp::DoubleTensor;

TEST(Budgets, HoldARealF32Machine) {
  for (DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    for (const OpCase& c : op_cases(dtype)) {
      SCOPED_TRACE(c.name);
      const ir::Graph graph = graph_of(c);
      const auto inputs = inputs_of(c);
      const Budgeted budgeted = budgets(graph, inputs);
      const auto machine =
          interp::evaluate(decomposed(graph), inputs, {.round_f32 = true, .watch = {}});
      for (size_t i = 0; i < machine.size(); ++i) {
        EXPECT_TRUE(within(machine[i].data, budgeted.want[i].data, budgeted.budget[i]));
      }
    }
  }
}

TEST(Budgets, HoldRandomGraphsOnARealF32Machine) {
  for (const RandomGraphOptions& options :
       {RandomGraphOptions{}, RandomGraphOptions{.gradients = true},
        RandomGraphOptions{.training = true}}) {
    size_t elements = 0, narrow = 0;
    for (uint64_t seed = 0; seed < 60; ++seed) {
      SCOPED_TRACE(seed);
      const ir::Graph graph = random_graph(seed, options);
      const auto inputs = random_inputs(graph, seed);
      const Budgeted budgeted = budgets(graph, inputs);
      const auto machine =
          interp::evaluate(decomposed(graph), inputs, {.round_f32 = true, .watch = {}});
      for (size_t i = 0; i < machine.size(); ++i) {
        const std::vector<double>& want = budgeted.want[i].data;
        EXPECT_TRUE(within(machine[i].data, want, budgeted.budget[i]));
        double largest = 0.0;
        for (double x : want) largest = std::max(largest, std::abs(x));
        for (double e : budgeted.budget[i]) narrow += e <= 1e-3 * largest;
        elements += want.size();
      }
    }
    EXPECT_GE(static_cast<double>(narrow), 0.97 * static_cast<double>(elements))
        << options.gradients << options.training;
  }
}

TEST(Budgets, ANearTieMakesAGradientOfMaxUncertainAndAClearOneDoesNot) {
  const auto budget_of_gradient = [](double second) {
    ir::Builder builder("max");
    const Tensor x(builder, builder.input("x", {DType::f32, {3}}, "batch"));
    const Tensor loss = reduce_max(exp(x), {0});
    const ir::Value wrt[] = {x.value()};
    builder.output("g", autodiff::gradients(builder, loss.value(), wrt)[0]);
    std::vector<DoubleTensor> inputs(1);
    inputs[0].type = {DType::f32, {3}};
    inputs[0].data = {1.0, second, 0.0};
    return budgets(builder.finish(), inputs).budget[0];
  };
  const std::vector<double> clear = budget_of_gradient(0.5);
  EXPECT_LT(clear[0], 1e-5);
  EXPECT_EQ(clear[1], 0.0);
  const std::vector<double> tie = budget_of_gradient(1.0 + 0x1p-23);
  EXPECT_EQ(tie[0], HUGE_VAL);  // one or two share the gradient; the division has no bound
  EXPECT_EQ(tie[1], HUGE_VAL);
  EXPECT_EQ(tie[2], HUGE_VAL);  // 0 times what has no bound
}

/// One element of a result, off by `share` of the largest magnitude in it.
void disturb(Random& random, double share, std::vector<double>& data) {
  double largest = 0.0;
  for (double x : data) largest = std::max(largest, std::isfinite(x) ? std::abs(x) : 0.0);
  double& element =
      random.pick(data) == 0.0
          ? data[0]
          : data[static_cast<size_t>(random.integer(0, static_cast<int64_t>(data.size())))];
  element += share * (largest == 0.0 ? 1.0 : largest);
}

TEST(SeededFault, InEveryOpIsNoticed) {
  for (const OpCase& c : op_cases()) {
    SCOPED_TRACE(c.name);
    const ir::Graph graph = graph_of(c);
    const Budgeted budgeted = budgets(graph, inputs_of(c));
    Random random(3);
    for (size_t i = 0; i < budgeted.want.size(); ++i) {
      std::vector<double> got = budgeted.want[i].data;
      EXPECT_TRUE(within(got, budgeted.want[i].data, budgeted.budget[i]));
      disturb(random, 1e-3, got);
      const auto result = within(got, budgeted.want[i].data, budgeted.budget[i]);
      EXPECT_FALSE(result);
      EXPECT_NE(std::string(result.message()).find("1 of "), std::string::npos);
    }
  }
}

TEST(Compare, NamesTheWorstElement) {
  const std::vector<double> want{1, 2, 3};
  const std::vector<double> got{1, 2.5, 3.25};
  const std::vector<double> budget{0.1, 0.25, 0.1};
  const auto result = within(got, want, budget);
  EXPECT_FALSE(result);
  EXPECT_STREQ(result.message(),
               "2 of 3 elements are beyond their budget; worst [2]: got 3.25, want 3, "
               "budget 0.1, 250 % of it");
}

TEST(Compare, NanAndInfinityMustStandWhereTheyBelong) {
  const double nan = std::nan("");
  const double inf = HUGE_VAL;
  const std::vector<double> budget{1};
  const auto ok = [&](double got, double want) {
    return static_cast<bool>(within(std::vector<double>{got}, std::vector<double>{want}, budget));
  };
  EXPECT_TRUE(ok(nan, nan));
  EXPECT_TRUE(ok(inf, inf));
  EXPECT_FALSE(ok(nan, 0));
  EXPECT_FALSE(ok(0, nan));
  EXPECT_FALSE(ok(inf, -inf));
  EXPECT_FALSE(ok(1e300, inf));
  EXPECT_FALSE(ok(inf, 1e300));
  EXPECT_FALSE(static_cast<bool>(within(std::vector<double>{}, budget, budget)));
}

}  // namespace
}  // namespace espalier::testing
