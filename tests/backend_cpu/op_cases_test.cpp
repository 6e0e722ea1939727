// SPDX-License-Identifier: Apache-2.0
// Every op case on the CPU, each element within its derived budget of the exact value.
#include "tests/support/op_cases.h"

#include <set>

#include "tests/backend_cpu/run_graph.h"
#include "tests/support/budget.h"
#include "tests/support/compare.h"

namespace espalier::testing {
namespace {

struct Setting {
  std::string name;
  DType dtype;
  bool fuse;
  bool flash;
};

class OpCasesOnCpu : public ::testing::TestWithParam<Setting> {};

TEST_P(OpCasesOnCpu, StayWithinTheirBudget) {
  const Setting& setting = GetParam();
  for (const OpCase& c : op_cases(setting.dtype)) {
    // Gradients of tables are kept in f32 by the precision pass.
    if (c.op == ir::Op::scatter_add && setting.dtype != DType::f32) continue;
    SCOPED_TRACE(c.name);
    const ir::Graph graph = graph_of(c);
    const auto inputs = inputs_of(c);
    std::vector<HostTensor> host;
    for (const auto& t : inputs) host.push_back(interp::to_host(t));
    CompileOptions options;
    options.fuse = setting.fuse;
    options.flash = setting.flash;
    const Budgeted exact = budgets(graph, inputs);
    std::vector<HostTensor> got;
    try {
      got = run_on_cpu(graph, host, options);
    } catch (const Error& error) {
      ADD_FAILURE() << error.what();
      continue;
    }
    ASSERT_EQ(got.size(), exact.want.size());
    for (size_t i = 0; i < got.size(); ++i) {
      EXPECT_TRUE(within(got[i].to_doubles(), exact.want[i].data, exact.budget[i]));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Settings, OpCasesOnCpu,
                         ::testing::Values(Setting{"f32", DType::f32, true, true},
                                           Setting{"f32_unfused", DType::f32, false, false},
                                           Setting{"bf16", DType::bf16, true, true},
                                           Setting{"f16", DType::f16, true, true}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace espalier::testing
