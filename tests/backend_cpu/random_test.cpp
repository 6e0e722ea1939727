// SPDX-License-Identifier: Apache-2.0
// Random graphs on the CPU against the interpreter, each element within its derived budget.
#include "espalier/backend/cpu/cpu_info.h"
#include "tests/backend_cpu/run_graph.h"
#include "tests/support/budget.h"
#include "tests/support/compare.h"
#include "tests/support/random_graph.h"

namespace espalier {
namespace {

using testing::Budgeted;

/// Elements of all outputs, and how many of them have a bound below a thousandth of the largest.
struct Checked {
  size_t elements = 0;
  size_t narrow = 0;
};

void expect_within_budget(const ir::Graph& graph, const CompileOptions& options, uint64_t seed,
                          Checked& checked) {
  const auto inputs = testing::random_inputs(graph, seed);
  std::vector<HostTensor> host;
  for (const auto& t : inputs) host.push_back(interp::to_host(t));
  std::vector<interp::DoubleTensor> rounded;
  for (const HostTensor& t : host) rounded.push_back(interp::from_host(t));
  const Budgeted exact = testing::budgets(graph, rounded);
  const auto got = testing::run_on_cpu(graph, host, options);
  for (size_t i = 0; i < got.size(); ++i) {
    const std::vector<double>& want = exact.want[i].data;
    EXPECT_TRUE(testing::within(got[i].to_doubles(), want, exact.budget[i]))
        << "output " << graph.outputs()[i].name << " of seed " << seed;
    double largest = 0.0;
    for (double x : want) largest = std::max(largest, std::abs(x));
    for (double e : exact.budget[i]) checked.narrow += e <= 1e-3 * largest;
    checked.elements += want.size();
  }
}

struct Kind {
  const char* name;
  testing::RandomGraphOptions graph;
  bool fuse;
};

class RandomGraphs : public ::testing::TestWithParam<Kind> {};

TEST_P(RandomGraphs, StayWithinTheirBudget) {
  Checked checked;
  for (uint64_t seed = 0; seed < 15; ++seed) {
    const ir::Graph graph = testing::random_graph(seed, GetParam().graph);
    CompileOptions options;
    options.fuse = GetParam().fuse;
    expect_within_budget(graph, options, seed, checked);
    ASSERT_FALSE(HasFailure()) << "seed " << seed;
  }
  EXPECT_GE(static_cast<double>(checked.narrow), 0.97 * static_cast<double>(checked.elements));
}

const testing::RandomGraphOptions kForward{.steps = 20};
const testing::RandomGraphOptions kGradients{.steps = 20, .gradients = true};
const testing::RandomGraphOptions kTraining{.steps = 20, .training = true};
INSTANTIATE_TEST_SUITE_P(Kinds, RandomGraphs,
                         ::testing::Values(Kind{"Forward", kForward, false},
                                           Kind{"ForwardFused", kForward, true},
                                           Kind{"Gradients", kGradients, false},
                                           Kind{"GradientsFused", kGradients, true},
                                           Kind{"Training", kTraining, false},
                                           Kind{"TrainingFused", kTraining, true}),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace espalier
