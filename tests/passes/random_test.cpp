// SPDX-License-Identifier: Apache-2.0
// A pass must not change what a graph means: random graphs, before and after, in double.
#include <gtest/gtest.h>

#include <set>

#include "espalier/base/error.h"
#include "espalier/interp/interp.h"
#include "espalier/passes/pass.h"
#include "tests/support/compare.h"
#include "tests/support/random_graph.h"

namespace espalier::passes {
namespace {

void expect_equal_meaning(const ir::Graph& before, const ir::Graph& after, uint64_t seed) {
  const auto inputs = testing::random_inputs(before, seed);
  const auto want = interp::evaluate(before, inputs);
  const auto got = interp::evaluate(after, inputs);
  ASSERT_EQ(want.size(), got.size());
  for (size_t i = 0; i < want.size(); ++i) {
    EXPECT_EQ(want[i].type, got[i].type);
    EXPECT_TRUE(testing::close(got[i].data, want[i].data, 1e-9, 1e-9))
        << "output " << before.outputs()[i].name << " of seed " << seed;
  }
}

/// Composites gone, as every pass of the step's list finds it.
ir::Graph prepared(uint64_t seed) {
  const ir::Graph graph = testing::random_graph(
      seed, {.steps = 20, .gradients = seed % 2 == 1, .low_precision = seed % 3 == 0});
  return erase_stops(decompose(graph, {}), {});
}

/// Names of the passes in both lists.
std::set<std::string> pass_names() {
  std::set<std::string> names;
  for (const auto* list : {&canonical_passes(), &step_passes()}) {
    for (const Pass& pass : *list) names.emplace(pass.name);
  }
  return names;
}

class EveryPass : public ::testing::TestWithParam<std::string> {};

TEST_P(EveryPass, KeepsTheMeaning) {
  for (uint64_t seed = 0; seed < 30; ++seed) {
    const ir::Graph before = prepared(seed);
    for (const auto* list : {&canonical_passes(), &step_passes()}) {
      for (const Pass& pass : *list) {
        if (pass.name != GetParam()) continue;
        const PassOptions options{.remat = {"*"}};
        const ir::Graph after = pass.run(before, options);
        ir::verify(after);
        expect_equal_meaning(before, after, seed);
        if (HasFailure()) return;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, EveryPass, ::testing::ValuesIn(pass_names()),
                         [](const auto& info) { return info.param; });

TEST(Pipeline, KeepsTheMeaningWithAnyPassSwitchedOff) {
  std::vector<std::string> names{""};
  for (const Pass& pass : step_passes()) {
    if (!pass.required) names.emplace_back(pass.name);
  }
  for (uint64_t seed = 100; seed < 110; ++seed) {
    const ir::Graph before = testing::random_graph(seed, {.steps = 20, .gradients = true});
    for (const std::string& name : names) {
      for (const bool fuse : {true, false}) {
        PassOptions options{.fuse = fuse};
        if (!name.empty()) options.disabled = {name};
        expect_equal_meaning(before, run_passes(step_passes(), before, options), seed);
        ASSERT_FALSE(HasFailure()) << "without " << name << " fuse " << fuse;
      }
    }
  }
}

TEST(Pipeline, PassesAreIdempotent) {
  for (uint64_t seed = 0; seed < 10; ++seed) {
    for (const PassFn pass : {&cse, &dce, &order}) {
      const ir::Graph once = pass(prepared(seed), {});
      EXPECT_EQ(ir::print(once), ir::print(pass(once, {})));
    }
  }
}

TEST(Pipeline, UnknownNameToSwitchOffNamesTheNearest) {
  try {
    run_passes(step_passes(), testing::random_graph(1), {.disabled = {"precisoin"}});
    FAIL();
  } catch (const Error& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("no pass \"precisoin\""), std::string::npos) << text;
    EXPECT_NE(text.find("nearest: precision"), std::string::npos) << text;
    EXPECT_EQ(error.kind(), ErrorKind::user);
  }
}

}  // namespace
}  // namespace espalier::passes
