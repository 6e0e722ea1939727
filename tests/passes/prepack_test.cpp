// SPDX-License-Identifier: Apache-2.0
// Weights that are packed once: in which type they are read, and products that are made of two.
#include <gtest/gtest.h>

#include <vector>

#include "espalier/passes/pass.h"
#include "tests/support/compare.h"
#include "tests/support/random_graph.h"

namespace espalier::testing {
namespace {

std::vector<ir::Node> nodes_of(const ir::Graph& graph, ir::Op op) {
  std::vector<ir::Node> found;
  for (const ir::Node& node : graph.nodes()) {
    if (node.op == op) found.push_back(node);
  }
  return found;
}

void expect_same_meaning(const ir::Graph& before, const ir::Graph& after) {
  ir::verify(after);
  const auto inputs = random_inputs(before, 1);
  EXPECT_TRUE(
      close(interp::evaluate(after, inputs)[0].data, interp::evaluate(before, inputs)[0].data));
}

TEST(Prepack, AWeightStoredNarrowIsReadAsItIs) {
  const ir::Graph graph = ir::parse(R"(graph g {
    %0 = input {name="x", role="batch"} : f32[3,4]
    %1 = input {name="w", role="parameter"} : bf16[5,4]
    %2 = convert %1 {dtype=f32} : f32[5,4]
    %3 = transpose %2 {permutation=[1,0]} : f32[4,5]
    %4 = dot %0, %3 {lhs_contract=[1], rhs_contract=[0]} : f32[3,5]
    return y=%4 })");
  const ir::Graph after = passes::dce(passes::prepack(graph, {}), {});
  EXPECT_TRUE(nodes_of(after, ir::Op::convert).empty());
  const auto dots = nodes_of(after, ir::Op::dot);
  ASSERT_EQ(dots.size(), 1u);
  EXPECT_EQ(dots[0].attrs.integer(ir::Attr::packed), 1);
  EXPECT_FALSE(dots[0].attrs.has(ir::Attr::rounded));
  EXPECT_EQ(after.type(dots[0].inputs[1]).dtype, DType::bf16);
  expect_same_meaning(graph, after);
}

TEST(Prepack, ANarrowProductRoundsItsWeightOnce) {
  const ir::Graph graph = ir::parse(R"(graph g {
    %0 = input {name="x", role="batch"} : bf16[3,4]
    %1 = input {name="w", role="parameter"} : f32[5,4]
    %2 = convert %1 {dtype=bf16} : bf16[5,4]
    %3 = dot %0, %2 {lhs_contract=[1], rhs_contract=[1], dtype=f32} : f32[3,5]
    return y=%3 })");
  const ir::Graph after = passes::dce(passes::prepack(graph, {}), {});
  const auto dots = nodes_of(after, ir::Op::dot);
  ASSERT_EQ(dots.size(), 1u);
  EXPECT_EQ(dots[0].attrs.dtype(ir::Attr::rounded), DType::bf16);
  EXPECT_EQ(after.type(dots[0].inputs[1]).dtype, DType::f32);
  expect_same_meaning(graph, after);
}

TEST(Prepack, LeavesWhatChanges) {
  const ir::Graph graph = ir::parse(R"(graph g {
    %0 = input {name="x", role="batch"} : f32[3,4]
    %1 = input {name="w", role="parameter"} : f32[4,4]
    %2 = input {name="v", role="batch"} : f32[4,4]
    %3 = dot %0, %1 {lhs_contract=[1], rhs_contract=[0]} : f32[3,4]
    %4 = dot %3, %2 {lhs_contract=[1], rhs_contract=[0]} : f32[3,4]
    %5 = neg %1 : f32[4,4]
    return y=%4, w=%5 -> %1 })");
  const auto dots = nodes_of(passes::prepack(graph, {}), ir::Op::dot);
  EXPECT_EQ(dots.size(), 2u);
  for (const ir::Node& node : dots) EXPECT_FALSE(node.attrs.has(ir::Attr::packed));
}

/// silu(x w) * (x v); the arguments replace parts of it.
std::string gated(const std::string& second_left = "%0", const std::string& packed = ", packed=1",
                  const std::string& returned = "y=%11") {
  return R"(graph g {
    %0 = input {name="x", role="batch"} : f32[3,4]
    %1 = input {name="z", role="batch"} : f32[3,4]
    %2 = input {name="w", role="parameter"} : f32[5,4]
    %3 = input {name="v", role="parameter"} : f32[5,4]
    %4 = dot %0, %2 {lhs_contract=[1], rhs_contract=[1])" +
         packed + "} : f32[3,5]\n    %5 = dot " + second_left +
         ", %3 {lhs_contract=[1], rhs_contract=[1]" + packed + R"(} : f32[3,5]
    %6 = constant {dtype=f32, shape=[3,5], value=80} : f32[3,5]
    %7 = constant {dtype=f32, shape=[3,5], value=1} : f32[3,5]
    %8 = neg %4 : f32[3,5]
    %9 = min %8, %6 : f32[3,5]
    %10 = exp %9 : f32[3,5]
    %12 = add %10, %7 : f32[3,5]
    %13 = div %4, %12 : f32[3,5]
    %11 = mul %13, %5 : f32[3,5]
    return )" +
         returned + " }";
}

/// Whether fusing makes one product of two.
bool becomes_one(const std::string& text, const passes::PassOptions& options = {}) {
  const ir::Graph graph = ir::parse(text);
  const ir::Graph fused = passes::fuse(graph, options);
  expect_same_meaning(graph, fused);
  const auto products = nodes_of(fused, ir::Op::matmul);
  return products.size() == 1 && products[0].attrs.text(ir::Attr::activation) == "swiglu";
}

TEST(Fuse, AGateAndWhatItGatesAreOneProduct) {
  EXPECT_TRUE(becomes_one(gated()));
  EXPECT_FALSE(becomes_one(gated("%1")));                                  // of other rows
  EXPECT_FALSE(becomes_one(gated("%0", "")));                              // not packed
  EXPECT_FALSE(becomes_one(gated("%0", ", packed=1", "y=%11, gate=%4")));  // read by others
  EXPECT_FALSE(becomes_one(gated(), {.gated = false}));
}

}  // namespace
}  // namespace espalier::testing
