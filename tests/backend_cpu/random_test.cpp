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

void expect_within_budget(const ir::Graph& graph, const CompileOptions& options, uint64_t seed) {
  const auto inputs = testing::random_inputs(graph, seed);
  std::vector<HostTensor> host;
  for (const auto& t : inputs) host.push_back(interp::to_host(t));
  std::vector<interp::DoubleTensor> rounded;
  for (const HostTensor& t : host) rounded.push_back(interp::from_host(t));
  const Budgeted exact = testing::BudgetAnalysis(testing::decomposed(graph)).run(rounded);
  const auto got = testing::run_on_cpu(graph, host, options);
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_TRUE(testing::within(got[i].to_doubles(), exact.want[i].data, exact.budget[i]))
        << "output " << graph.outputs()[i].name << " of seed " << seed;
  }
}

class RandomGraphs : public ::testing::TestWithParam<bool> {};

TEST_P(RandomGraphs, StayWithinTheirBudget) {
  for (uint64_t seed = 0; seed < 15; ++seed) {
    const ir::Graph graph = testing::random_graph(seed, {.steps = 20});
    CompileOptions options;
    options.fuse = GetParam();
    expect_within_budget(graph, options, seed);
    ASSERT_FALSE(HasFailure()) << "seed " << seed;
  }
}

INSTANTIATE_TEST_SUITE_P(Fused, RandomGraphs, ::testing::Bool());

}  // namespace
}  // namespace espalier
