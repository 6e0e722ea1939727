// SPDX-License-Identifier: Apache-2.0
// Each pass on a small graph: the text before and after.
#include <gtest/gtest.h>

#include <algorithm>

#include "espalier/passes/pass.h"

namespace espalier::passes {
namespace {

/// Texts without their first and last line.
void expect_pass(PassFn pass, const std::string& before, const std::string& after,
                 const PassOptions& options = {}) {
  const auto parse = [](const std::string& body) { return ir::parse("graph g {" + body + "}"); };
  const ir::Graph got = pass(parse(before), options);
  ir::verify(got);
  EXPECT_EQ(ir::print(got), ir::print(parse(after)));
}

TEST(Golden, FoldComputesWhatIsKnownAndDropsWhatDoesNothing) {
  expect_pass(fold, R"(
    %0 = input {name="x", role="batch"} : f32[2,3]
    %1 = constant {dtype=f32, shape=[2,3], value=2} : f32[2,3]
    %2 = constant {dtype=f32, shape=[2,3], value=0.5} : f32[2,3]
    %3 = mul %1, %2 : f32[2,3]
    %4 = mul %0, %3 : f32[2,3]
    %5 = neg %4 : f32[2,3]
    %6 = neg %5 : f32[2,3]
    %7 = transpose %6 {permutation=[1,0]} : f32[3,2]
    %8 = transpose %7 {permutation=[1,0]} : f32[2,3]
    %9 = exp %8 : f32[2,3]
    return y=%9)",
              R"(
    %0 = input {name="x", role="batch"} : f32[2,3]
    %1 = constant {dtype=f32, shape=[2,3], value=2} : f32[2,3]
    %2 = constant {dtype=f32, shape=[2,3], value=0.5} : f32[2,3]
    %3 = constant {dtype=f32, shape=[2,3], value=1} : f32[2,3]
    %4 = neg %0 : f32[2,3]
    %5 = transpose %0 {permutation=[1,0]} : f32[3,2]
    %6 = exp %0 : f32[2,3]
    return y=%6)");
}

TEST(Golden, FoldJoinsPaddedPartsIntoOneConcat) {
  expect_pass(fold, R"(
    %0 = input {name="a", role="batch"} : f32[2]
    %1 = input {name="b", role="batch"} : f32[3]
    %2 = pad %0 {low=[0], high=[3], value=0} : f32[5]
    %3 = pad %1 {low=[2], high=[0], value=0} : f32[5]
    %4 = add %3, %2 : f32[5]
    return y=%4)",
              R"(
    %0 = input {name="a", role="batch"} : f32[2]
    %1 = input {name="b", role="batch"} : f32[3]
    %2 = pad %0 {low=[0], high=[3], value=0} : f32[5]
    %3 = pad %1 {low=[2], high=[0], value=0} : f32[5]
    %4 = concat %0, %1 {axis=0} : f32[5]
    return y=%4)");
}

TEST(Golden, CseJoinsEqualNodesButNotRecomputedOnes) {
  expect_pass(cse, R"(
    %0 = input {name="x", role="batch"} : f32[3]
    %1 = input {name="y", role="batch"} : f32[3]
    %2 = add %0, %1 : f32[3]
    %3 = add %1, %0 : f32[3]
    %4 = sub %0, %1 : f32[3]
    %5 = sub %1, %0 : f32[3]
    %6 = exp %2 : f32[3]
    %7 = exp %3 : f32[3]
    %8 = exp %2 {remat=1} : f32[3]
    return a=%4, b=%5, c=%6, d=%7, e=%8)",
              R"(
    %0 = input {name="x", role="batch"} : f32[3]
    %1 = input {name="y", role="batch"} : f32[3]
    %2 = add %0, %1 : f32[3]
    %3 = sub %0, %1 : f32[3]
    %4 = sub %1, %0 : f32[3]
    %5 = exp %2 : f32[3]
    %6 = exp %2 {remat=1} : f32[3]
    return a=%3, b=%4, c=%5, d=%5, e=%6)");
}

TEST(Golden, CseTellsZeroFromMinusZeroAndJoinsNan) {
  expect_pass(cse, R"(
    %0 = constant {dtype=f32, value=0, shape=[]} : f32[]
    %1 = constant {dtype=f32, value=-0, shape=[]} : f32[]
    %2 = constant {dtype=f32, value=0, shape=[]} : f32[]
    %3 = constant {dtype=f32, value=nan, shape=[]} : f32[]
    %4 = constant {dtype=f32, value=nan, shape=[]} : f32[]
    return a=%0, b=%1, c=%2, d=%3, e=%4)",
              R"(
    %0 = constant {dtype=f32, value=0, shape=[]} : f32[]
    %1 = constant {dtype=f32, value=-0, shape=[]} : f32[]
    %2 = constant {dtype=f32, value=nan, shape=[]} : f32[]
    return a=%0, b=%1, c=%0, d=%2, e=%2)");
}

TEST(Golden, CseKeepsRandomStreamsApart) {
  expect_pass(cse, R"(
    %0 = input {name="seed", role="state"} : i64[]
    %1 = input {name="step", role="state"} : i64[]
    %2 = random_uniform %0, %1 {shape=[3], id=1} : f32[3]
    %3 = random_uniform %0, %1 {shape=[3], id=1} : f32[3]
    %4 = random_uniform %0, %1 {shape=[3], id=2} : f32[3]
    %5 = sub %2, %3 : f32[3]
    return a=%5, b=%4)",
              R"(
    %0 = input {name="seed", role="state"} : i64[]
    %1 = input {name="step", role="state"} : i64[]
    %2 = random_uniform %0, %1 {shape=[3], id=1} : f32[3]
    %3 = random_uniform %0, %1 {shape=[3], id=2} : f32[3]
    %4 = sub %2, %2 : f32[3]
    return a=%4, b=%3)");
}

TEST(Golden, DceDropsWhatNoOutputNeedsAndKeepsInputs) {
  const std::string before = R"(
    %0 = input {name="x", role="batch"} : f32[3]
    %1 = input {name="unused", role="batch"} : f32[3]
    %2 = exp %1 : f32[3]
    %3 = neg %0 : f32[3]
    return y=%3)";
  const std::string after = R"(
    %0 = input {name="x", role="batch"} : f32[3]
    %1 = input {name="unused", role="batch"} : f32[3]
    %2 = neg %0 : f32[3]
    return y=%2)";
  expect_pass(dce, before, after);
  expect_pass(order, before, after);
}

TEST(Golden, OrderIsThatOfAWalkFromTheOutputs) {
  expect_pass(order, R"(
    %0 = input {name="x", role="batch"} : f32[3]
    %1 = exp %0 : f32[3]
    %2 = tanh %0 : f32[3]
    %3 = sub %2, %1 : f32[3]
    return y=%3)",
              R"(
    %0 = input {name="x", role="batch"} : f32[3]
    %1 = tanh %0 : f32[3]
    %2 = exp %0 : f32[3]
    %3 = sub %1, %2 : f32[3]
    return y=%3)");
}

TEST(Golden, EraseStops) {
  expect_pass(erase_stops, R"(
    %0 = input {name="x", role="batch"} : f32[3]
    %1 = stop_gradient %0 : f32[3]
    %2 = exp %1 : f32[3]
    return y=%2)",
              R"(
    %0 = input {name="x", role="batch"} : f32[3]
    %1 = exp %0 : f32[3]
    return y=%1)");
}

TEST(Golden, DecomposeTakesRowNormsApart) {
  expect_pass(decompose, R"(
    %0 = input {name="x", role="batch"} : f32[2,4]
    %1 = input {name="w", role="parameter"} : f32[4]
    %2 = rms_norm %0, %1 {epsilon=0.5} : f32[2,4]
    return y=%2)",
              R"(
    %0 = input {name="x", role="batch"} : f32[2,4]
    %1 = input {name="w", role="parameter"} : f32[4]
    %2 = mul %0, %0 : f32[2,4]
    %3 = reduce_sum %2 {axes=[1]} : f32[2]
    %4 = constant {dtype=f32, shape=[2], value=0.25} : f32[2]
    %5 = mul %3, %4 : f32[2]
    %6 = constant {dtype=f32, shape=[2], value=0.5} : f32[2]
    %7 = add %5, %6 : f32[2]
    %8 = rsqrt %7 : f32[2]
    %9 = broadcast %8 {axes=[0], shape=[2,4]} : f32[2,4]
    %10 = mul %0, %9 : f32[2,4]
    %11 = broadcast %1 {axes=[1], shape=[2,4]} : f32[2,4]
    %12 = mul %10, %11 : f32[2,4]
    return y=%12)");
}

/// Products and attention read bf16. What is added, normalized, exponentiated and summed, the loss
/// and what is returned stay f32.
TEST(Golden, PrecisionNarrowsWhatProductsAndAttentionRead) {
  const std::string before = R"(
    %0 = input {name="x", role="batch"} : f32[1,4,2,8]
    %1 = input {name="w", role="parameter"} : f32[8,8]
    %2 = dot %0, %1 {lhs_contract=[3], rhs_contract=[1]} : f32[1,4,2,8]
    %3 = attention %2, %2, %0 {scale=0.5, causal=1} : f32[1,4,2,8], f32[1,2,4]
    %4 = add %3, %0 : f32[1,4,2,8]
    %5 = exp %4 : f32[1,4,2,8]
    %6 = reduce_sum %5 {axes=[0,1,2,3]} : f32[]
    return y=%6)";
  expect_pass(precision, before, before);
  expect_pass(precision, before, R"(
    %0 = input {name="x", role="batch"} : f32[1,4,2,8]
    %1 = input {name="w", role="parameter"} : f32[8,8]
    %2 = convert %0 {dtype=bf16} : bf16[1,4,2,8]
    %3 = convert %1 {dtype=bf16} : bf16[8,8]
    %4 = dot %2, %3 {lhs_contract=[3], rhs_contract=[1], dtype=f32} : f32[1,4,2,8]
    %5 = convert %4 {dtype=bf16} : bf16[1,4,2,8]
    %6 = convert %4 {dtype=bf16} : bf16[1,4,2,8]
    %7 = convert %0 {dtype=bf16} : bf16[1,4,2,8]
    %8 = attention %5, %6, %7 {scale=0.5, causal=1} : bf16[1,4,2,8], f32[1,2,4]
    %9 = convert %8 {dtype=f32} : f32[1,4,2,8]
    %10 = add %9, %0 : f32[1,4,2,8]
    %11 = exp %10 : f32[1,4,2,8]
    %12 = reduce_sum %11 {axes=[0,1,2,3]} : f32[]
    return y=%12)",
              {.compute_dtype = DType::bf16});
}

TEST(Golden, RematComputesChosenScopesAgainAfterTheLoss) {
  expect_pass(remat, R"(
    %0 = input {name="x", role="batch"} : f32[3]
    %1 = exp %0 : f32[3] @"layer.0"
    %2 = tanh %1 : f32[3] @"layer.1"
    %3 = reduce_sum %2 {axes=[0]} : f32[]
    %4 = mul %1, %2 : f32[3]
    return loss=%3, grad=%4)",
              R"(
    %0 = input {name="x", role="batch"} : f32[3]
    %1 = exp %0 : f32[3] @"layer.0"
    %2 = tanh %1 : f32[3] @"layer.1"
    %3 = reduce_sum %2 {axes=[0]} : f32[]
    %4 = tanh %1 {remat=1} : f32[3] @"layer.1"
    %5 = mul %1, %4 : f32[3]
    return loss=%3, grad=%5)",
              {.remat = {"*.1"}});
}

bool has(const ir::Graph& graph, ir::Op op) {
  return std::any_of(graph.nodes().begin(), graph.nodes().end(),
                     [op](const ir::Node& node) { return node.op == op; });
}

/// The composite is taken apart without flash, and found again in those basic ops with it.
TEST(Golden, AttentionIsFoundInTheOpsItIsTakenApartInto) {
  const std::string attributes[] = {"scale=0.5", "causal=1, scale=0.5",
                                    "causal=1, scale=0.5, rate=0.25, id=7"};
  for (const std::string& attrs : attributes) {
    const bool dropout = attrs.find("rate") != std::string::npos;
    const ir::Graph composite = ir::parse(R"(graph g {
      %0 = input {name="q", role="batch"} : f32[2,4,3,8]
      %1 = input {name="k", role="batch"} : f32[2,4,3,8]
      %2 = input {name="v", role="batch"} : f32[2,4,3,8]
      %3 = input {name="seed", role="state"} : i64[]
      %4 = input {name="step", role="state"} : i64[]
      %5 = attention %0, %1, %2)" + std::string(dropout ? ", %3, %4 {" : " {") +
                                          attrs + R"(} : f32[2,4,3,8], f32[2,3,4]
      return y=%5 })");
    const ir::Graph basic = attention(composite, {.flash = false});
    EXPECT_FALSE(has(basic, ir::Op::attention)) << ir::print(basic);
    // The composite softmax inside is taken apart by `decompose`, as in a model written by hand.
    const ir::Graph found = dce(attention(decompose(basic, {}), {}), {});
    EXPECT_EQ(ir::print(found), ir::print(composite));
  }
}

/// Keys after the query instead of before it: another meaning, so nothing is recognized.
TEST(Golden, AnotherMaskIsNotTakenForACausalOne) {
  const ir::Graph composite = ir::parse(R"(graph g {
      %0 = input {name="q", role="batch"} : f32[1,4,1,2]
      %1 = attention %0, %0, %0 {causal=1, scale=1} : f32[1,4,1,2], f32[1,1,4]
      return y=%1 })");
  std::string text = ir::print(decompose(attention(composite, {.flash = false}), {}));
  const size_t at = text.find("= le ");
  ASSERT_NE(at, std::string::npos) << text;
  text.replace(at, 5, "= ge ");
  EXPECT_EQ(ir::print(attention(ir::parse(text), {})), text);
}

}  // namespace
}  // namespace espalier::passes
