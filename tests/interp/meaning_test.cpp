// SPDX-License-Identifier: Apache-2.0
// Every op on values that can be checked by hand.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

#include "espalier/base/error.h"
#include "espalier/base/rng.h"
#include "espalier/interp/interp.h"
#include "espalier/ir/builder.h"
#include "tests/support/compare.h"

namespace espalier::interp {
namespace {

using testing::close;
using testing::same;
using Elements = std::vector<double>;

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

struct Case {
  ir::Op op;
  std::string inputs;  // types, "f32[2,2] i32[3]"
  std::string attrs;
  std::string results;  // types
  std::vector<Elements> in;
  std::vector<Elements> out;
};

const std::vector<Case>& cases() {
  using ir::Op;
  static const double e = std::exp(1.0);
  static const std::vector<Case> all{
      {Op::constant, "", "{dtype=f32, shape=[2], value=1.5}", "f32[2]", {}, {{1.5, 1.5}}},
      {Op::iota, "", "{axis=0, dtype=i32, shape=[2,2]}", "i32[2,2]", {}, {{0, 0, 1, 1}}},
      {Op::iota, "", "{axis=1, dtype=f32, shape=[2,2]}", "f32[2,2]", {}, {{0, 1, 0, 1}}},
      {Op::convert, "f32[4]", "{dtype=i32}", "i32[4]", {{1.9, -1.9, 0.5, 7}}, {{1, -1, 0, 7}}},
      {Op::convert, "f32[2]", "{dtype=bool}", "bool[2]", {{-0.5, 0}}, {{1, 0}}},
      {Op::convert,
       "f32[1]",
       "{dtype=bf16}",
       "bf16[1]",
       {{1.0 + 0x1p-7 + 0x1p-9}},
       {{1.0 + 0x1p-7}}},
      {Op::neg, "f32[2]", "", "f32[2]", {{1, -2}}, {{-1, 2}}},
      {Op::abs, "i32[2]", "", "i32[2]", {{1, -2}}, {{1, 2}}},
      {Op::exp, "f32[2]", "", "f32[2]", {{0, 1}}, {{1, e}}},
      {Op::log, "f32[3]", "", "f32[3]", {{1, e, 0}}, {{0, 1, -kInf}}},
      {Op::sqrt, "f32[2]", "", "f32[2]", {{4, 9}}, {{2, 3}}},
      {Op::rsqrt, "f32[2]", "", "f32[2]", {{4, 16}}, {{0.5, 0.25}}},
      {Op::tanh, "f32[2]", "", "f32[2]", {{0, 1000}}, {{0, 1}}},
      {Op::erf, "f32[3]", "", "f32[3]", {{0, 10, -10}}, {{0, 1, -1}}},
      {Op::sin, "f32[1]", "", "f32[1]", {{0.5}}, {{std::sin(0.5)}}},
      {Op::cos, "f32[1]", "", "f32[1]", {{0.5}}, {{std::cos(0.5)}}},
      {Op::floor, "f32[2]", "", "f32[2]", {{1.5, -1.5}}, {{1, -2}}},
      {Op::logical_not, "bool[2]", "", "bool[2]", {{0, 1}}, {{1, 0}}},
      {Op::stop_gradient, "f32[1]", "", "f32[1]", {{3}}, {{3}}},
      {Op::add, "f32[2] f32[2]", "", "f32[2]", {{1, 2}, {10, 20}}, {{11, 22}}},
      {Op::add, "u8[1] u8[1]", "", "u8[1]", {{200}, {100}}, {{44}}},
      {Op::sub, "f32[2] f32[2]", "", "f32[2]", {{1, 2}, {10, 20}}, {{-9, -18}}},
      {Op::mul, "f32[2] f32[2]", "", "f32[2]", {{1, 2}, {10, 20}}, {{10, 40}}},
      {Op::div, "f32[2] f32[2]", "", "f32[2]", {{1, 2}, {10, 0}}, {{0.1, kInf}}},
      {Op::div, "i32[3] i32[3]", "", "i32[3]", {{7, -7, 7}, {2, 2, 0}}, {{3, -3, 0}}},
      {Op::max, "f32[3] f32[3]", "", "f32[3]", {{1, kNan, 5}, {2, 0, kNan}}, {{2, kNan, kNan}}},
      {Op::min, "f32[3] f32[3]", "", "f32[3]", {{1, kNan, 5}, {2, 0, kNan}}, {{1, kNan, kNan}}},
      {Op::pow, "f32[2] f32[2]", "", "f32[2]", {{2, 9}, {3, 0.5}}, {{8, 3}}},
      {Op::eq, "f32[3] f32[3]", "", "bool[3]", {{1, 2, kNan}, {1, 3, kNan}}, {{1, 0, 0}}},
      {Op::ne, "f32[3] f32[3]", "", "bool[3]", {{1, 2, kNan}, {1, 3, kNan}}, {{0, 1, 1}}},
      {Op::lt, "f32[3] f32[3]", "", "bool[3]", {{1, 2, 3}, {2, 2, 2}}, {{1, 0, 0}}},
      {Op::le, "f32[3] f32[3]", "", "bool[3]", {{1, 2, 3}, {2, 2, 2}}, {{1, 1, 0}}},
      {Op::gt, "f32[3] f32[3]", "", "bool[3]", {{1, 2, 3}, {2, 2, 2}}, {{0, 0, 1}}},
      {Op::ge, "f32[3] f32[3]", "", "bool[3]", {{1, 2, 3}, {2, 2, 2}}, {{0, 1, 1}}},
      {Op::logical_and,
       "bool[4] bool[4]",
       "",
       "bool[4]",
       {{0, 0, 1, 1}, {0, 1, 0, 1}},
       {{0, 0, 0, 1}}},
      {Op::logical_or,
       "bool[4] bool[4]",
       "",
       "bool[4]",
       {{0, 0, 1, 1}, {0, 1, 0, 1}},
       {{0, 1, 1, 1}}},
      {Op::select, "bool[2] f32[2] f32[2]", "", "f32[2]", {{0, 1}, {1, 2}, {3, kNan}}, {{3, 2}}},
      {Op::broadcast,
       "f32[2]",
       "{shape=[2,3], axes=[0]}",
       "f32[2,3]",
       {{1, 2}},
       {{1, 1, 1, 2, 2, 2}}},
      {Op::broadcast,
       "f32[2]",
       "{shape=[3,2], axes=[1]}",
       "f32[3,2]",
       {{1, 2}},
       {{1, 2, 1, 2, 1, 2}}},
      {Op::reshape, "f32[2,2]", "{shape=[4]}", "f32[4]", {{1, 2, 3, 4}}, {{1, 2, 3, 4}}},
      {Op::transpose,
       "f32[2,1,3]",
       "{permutation=[2,0,1]}",
       "f32[3,2,1]",
       {{1, 2, 3, 4, 5, 6}},
       {{1, 4, 2, 5, 3, 6}}},
      {Op::slice,
       "f32[2,3]",
       "{starts=[1,1], limits=[2,3]}",
       "f32[1,2]",
       {{1, 2, 3, 4, 5, 6}},
       {{5, 6}}},
      {Op::slice, "f32[2]", "{starts=[1], limits=[1]}", "f32[0]", {{1, 2}}, {{}}},
      {Op::concat,
       "f32[2,1] f32[2,2]",
       "{axis=1}",
       "f32[2,3]",
       {{1, 2}, {3, 4, 5, 6}},
       {{1, 3, 4, 2, 5, 6}}},
      {Op::pad, "f32[2]", "{low=[1], high=[2], value=9}", "f32[5]", {{1, 2}}, {{9, 1, 2, 9, 9}}},
      {Op::reduce_sum, "f32[2,3]", "{axes=[0]}", "f32[3]", {{1, 2, 3, 4, 5, 6}}, {{5, 7, 9}}},
      {Op::reduce_sum, "f32[2,0]", "{axes=[1]}", "f32[2]", {{}}, {{0, 0}}},
      {Op::reduce_max, "f32[2,3]", "{axes=[1]}", "f32[2]", {{1, -2, 3, -4, kNan, -6}}, {{3, kNan}}},
      {Op::reduce_max, "f32[2,0]", "{axes=[1]}", "f32[2]", {{}}, {{-kInf, -kInf}}},
      {Op::dot,
       "f32[2,2] f32[2,2]",
       "{lhs_contract=[1], rhs_contract=[0]}",
       "f32[2,2]",
       {{1, 2, 3, 4}, {1, 10, 100, 1000}},
       {{201, 2010, 403, 4030}}},
      {Op::dot,
       "f32[2,2] f32[2,2]",
       "{lhs_batch=[1], rhs_batch=[0], lhs_contract=[0], rhs_contract=[1]}",
       "f32[2]",
       {{1, 2, 3, 4}, {1, 10, 100, 1000}},
       {{31, 4200}}},
      {Op::gather,
       "f32[2,2] u8[3]",
       "",
       "f32[3,2]",
       {{1, 2, 3, 4}, {1, 0, 1}},
       {{3, 4, 1, 2, 3, 4}}},
      {Op::scatter_add,
       "i32[3] f32[3,2]",
       "{rows=3}",
       "f32[3,2]",
       {{2, 0, 2}, {1, 2, 3, 4, 5, 6}},
       {{3, 4, 0, 0, 6, 8}}},
      {Op::layer_norm,
       "f32[1,2] f32[2] f32[2]",
       "{epsilon=0}",
       "f32[1,2]",
       {{1, 3}, {2, 3}, {10, 20}},
       {{8, 23}}},
      {Op::rms_norm,
       "f32[1,2] f32[2]",
       "{epsilon=5}",
       "f32[1,2]",
       {{1, 3}, {10, 100}},
       {{10 / std::sqrt(10.0), 300 / std::sqrt(10.0)}}},
      {Op::softmax,
       "f32[2,2]",
       "",
       "f32[2,2]",
       {{1000, 1000, 0, std::log(3.0)}},
       {{0.5, 0.5, 0.25, 0.75}}},
      {Op::softmax_cross_entropy,
       "f32[3,2] i32[3]",
       "",
       "f32[3]",
       {{0, std::log(3.0), 0, std::log(3.0), 5, 6}, {0, 1, -100}},
       {{std::log(4.0), std::log(4.0) - std::log(3.0), 0}}},
      {Op::matmul,
       "f32[1,2] f32[2,2] f32[2] f32[1,2]",
       "{lhs_contract=[1], rhs_contract=[1], bias=1, accumulate=1, activation=\"relu\"}",
       "f32[1,2]",
       {{1, 2}, {1, 0, 0, 1}, {10, 20}, {100, -1000}},
       {{111, 0}}},
  };
  return all;
}

/// A graph with one node: the case's op on inputs of its types.
ir::Graph graph_of(const Case& c) {
  std::string text = "graph one {\n";
  std::string operands;
  int count = 0;
  for (size_t at = 0; at < c.inputs.size();) {
    const size_t end = std::min(c.inputs.find(' ', at), c.inputs.size());
    text += fmt::format("  %{} = input {{name=\"x\", role=\"batch\"}} : {}\n", count,
                        c.inputs.substr(at, end - at));
    operands += fmt::format("{}%{}", count == 0 ? "" : ", ", count);
    ++count;
    at = end + 1;
  }
  text += fmt::format("  %{} = {} {} {} : {}\n  return y=%{}\n}}", count, name(c.op), operands,
                      c.attrs, c.results, count);
  return ir::parse(text);
}

std::vector<DoubleTensor> inputs_of(const ir::Graph& graph, const std::vector<Elements>& data) {
  std::vector<DoubleTensor> inputs;
  for (int32_t id : graph.inputs()) {
    inputs.push_back({graph.node(id).types[0], data.at(inputs.size())});
  }
  return inputs;
}

TEST(Meaning, OfEachOpByHand) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(fmt::format("{} {} {}", name(c.op), c.inputs, c.attrs));
    const ir::Graph graph = graph_of(c);
    const std::vector<DoubleTensor> got = evaluate(graph, inputs_of(graph, c.in));
    ASSERT_EQ(got.size(), c.out.size());
    for (size_t i = 0; i < got.size(); ++i) EXPECT_TRUE(close(got[i].data, c.out[i], 1e-15));
  }
}

TEST(Meaning, EveryOpHasATest) {
  // The others are tested in attention_test.cpp, mesh_test.cpp and below.
  std::set<ir::Op> seen{ir::Op::input, ir::Op::random_uniform, ir::Op::attention,
                        ir::Op::attention_grad, ir::Op::fusion};
  for (const Case& c : cases()) seen.insert(c.op);
  for (int i = 0; i < ir::kOpCount; ++i) {
    if (has_trait(static_cast<ir::Op>(i), ir::kMesh)) seen.insert(static_cast<ir::Op>(i));
  }
  EXPECT_EQ(seen.size(), static_cast<size_t>(ir::kOpCount));
}

TEST(Meaning, RandomUniformIsTheCounterGenerator) {
  const ir::Graph graph = ir::parse(R"(graph g {
    %0 = input {name="seed", role="scalar"} : i64[]
    %1 = input {name="step", role="scalar"} : i64[]
    %2 = random_uniform %0, %1 {shape=[3,5], id=77} : f32[3,5]
    return u=%2 })");
  const auto got = evaluate(graph, inputs_of(graph, {{123}, {4}}));
  for (uint64_t i = 0; i < 15; ++i) {
    EXPECT_EQ(got[0].data[i], rng_uniform(rng_key(123, 4, 77), i));
  }
}

TEST(Meaning, FusionIsItsBody) {
  const ir::Graph graph = ir::parse(R"(
    body 0 sum_and_product {
      %0 = input {name="a", role="operand"} : f32[2]
      %1 = input {name="b", role="operand"} : f32[2]
      %2 = add %0, %1 : f32[2]
      %3 = mul %0, %1 : f32[2]
      return s=%2, p=%3
    }
    graph g {
      %0 = input {name="x", role="batch"} : f32[2]
      %1 = fusion %0, %0 {body=0} : f32[2], f32[2]
      return p=%1.1, s=%1
    })");
  const auto got = evaluate(graph, inputs_of(graph, {{3, 5}}));
  EXPECT_TRUE(same(got[0].data, Elements{9, 25}));
  EXPECT_TRUE(same(got[1].data, Elements{6, 10}));
}

TEST(Rounding, LowPrecisionAlwaysF32OnlyWhenAsked) {
  const ir::Graph graph = ir::parse(R"(graph g {
    %0 = input {name="x", role="batch"} : f32[1]
    %1 = mul %0, %0 : f32[1]
    %2 = convert %1 {dtype=bf16} : bf16[1]
    %3 = constant {dtype=bf16, shape=[], value=0.1} : bf16[]
    return f=%1, h=%2, c=%3 })");
  const double x = 1.0 + 0x1p-20;
  const auto inputs = inputs_of(graph, {{x}});
  const auto exact = evaluate(graph, inputs);
  EXPECT_EQ(exact[0].data[0], x * x);
  EXPECT_EQ(exact[1].data[0], 1.0);
  EXPECT_EQ(exact[2].data[0], round_to(DType::bf16, 0.1));
  const auto rounded = evaluate(graph, inputs, {.round_f32 = true, .watch = {}});
  EXPECT_EQ(rounded[0].data[0], round_to(DType::f32, x * x));
}

TEST(Watch, SeesEveryNodeInOrder) {
  const ir::Graph graph = ir::parse(R"(graph g {
    %0 = input {name="x", role="batch"} : f32[1]
    %1 = log %0 : f32[1]
    %2 = neg %1 : f32[1]
    return y=%2 })");
  std::vector<int32_t> seen;
  int32_t first_nan = -1;
  const auto watch = [&](int32_t node, std::span<const DoubleTensor> results) {
    seen.push_back(node);
    if (first_nan < 0 && std::isnan(results[0].data[0])) first_nan = node;
  };
  evaluate(graph, inputs_of(graph, {{-1}}), {.round_f32 = false, .watch = watch});
  EXPECT_EQ(seen, (std::vector<int32_t>{0, 1, 2}));
  EXPECT_EQ(first_nan, 1);
}

std::string error_of(const ir::Graph& graph, const std::vector<DoubleTensor>& inputs) {
  try {
    evaluate(graph, inputs);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::user);
    return error.what();
  }
  return "";
}

TEST(Errors, NameTheInputAndTheIndex) {
  const ir::Graph graph = ir::parse(R"(graph g {
    %0 = input {name="table", role="parameter"} : f32[2,1]
    %1 = input {name="ids", role="batch"} : i32[2]
    %2 = gather %0, %1 : f32[2,1] @"embed"
    return y=%2 })");
  EXPECT_NE(error_of(graph, {}).find("graph g takes 2 inputs, got 0"), std::string::npos);
  auto inputs = inputs_of(graph, {{1, 2}, {0, 2}});
  EXPECT_NE(error_of(graph, inputs).find("index 2 at position 1 is outside a table of 2 rows"),
            std::string::npos);
  EXPECT_NE(error_of(graph, inputs).find("scope \"embed\""), std::string::npos);
  inputs[1].data = {0, -1};
  EXPECT_NE(error_of(graph, inputs).find("index -1 at position 1"), std::string::npos);
  inputs[1].type.dtype = DType::i64;
  EXPECT_NE(error_of(graph, inputs).find("input 1 \"ids\" is i32[2], got i64[2]"),
            std::string::npos);
  inputs[1].type.dtype = DType::i32;
  inputs[1].data = {0};
  EXPECT_NE(error_of(graph, inputs).find("of type i32[2] has 1 elements"), std::string::npos);
}

TEST(HostTensors, ConvertBothWays) {
  const HostTensor tensor = HostTensor::from_doubles(DType::f16, {2}, Elements{0.1, 2});
  const DoubleTensor values = from_host(tensor);
  EXPECT_EQ(values.data[0], round_to(DType::f16, 0.1));
  EXPECT_EQ(to_host(values).to_doubles(), values.data);
}

}  // namespace
}  // namespace espalier::interp
