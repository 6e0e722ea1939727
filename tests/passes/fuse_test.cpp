// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "espalier/passes/pass.h"
#include "tests/support/compare.h"
#include "tests/support/random_graph.h"

namespace espalier::testing {
namespace {

TEST(Fuse, ABiasThatIsNotStoredStaysInTheLoop) {
  const ir::Graph graph = ir::parse(R"(graph g {
    %0 = input {name="b", role="batch"} : f32[1]
    %1 = input {name="x", role="batch"} : f32[3,3]
    %2 = input {name="w", role="batch"} : f32[3,1]
    %3 = constant {dtype=f32, shape=[1], value=0.25} : f32[1]
    %4 = mul %0, %3 : f32[1]
    %5 = broadcast %4 {shape=[3,1], axes=[1]} : f32[3,1]
    %6 = dot %1, %2 {lhs_contract=[1], rhs_contract=[0]} : f32[3,1]
    %7 = add %5, %6 : f32[3,1]
    return y=%7 })");
  const ir::Graph fused = passes::fuse(graph, {});
  ir::verify(fused);
  const auto inputs = random_inputs(graph, 1);
  EXPECT_TRUE(
      close(interp::evaluate(fused, inputs)[0].data, interp::evaluate(graph, inputs)[0].data));
}

TEST(Fuse, WhatNeedsACompleteSumIsNotInTheLoopThatSums) {
  // The quotient shares %2 with the sum and could join its loop on that account.
  const ir::Graph graph = ir::parse(R"(graph g {
    %0 = input {name="x", role="batch"} : f32[3,4]
    %1 = exp %0 : f32[3,4]
    %2 = neg %1 : f32[3,4]
    %3 = reduce_sum %2 {axes=[0]} : f32[4]
    %4 = broadcast %3 {shape=[3,4], axes=[1]} : f32[3,4]
    %5 = div %2, %4 : f32[3,4]
    return y=%5 })");
  const ir::Graph fused = passes::fuse(graph, {});
  for (const auto& body : fused.bodies()) {
    for (const ir::Node& node : body->nodes()) {
      for (ir::Value v : node.inputs) EXPECT_NE(body->node(v).op, ir::Op::reduce_sum);
    }
  }
}

}  // namespace
}  // namespace espalier::testing
