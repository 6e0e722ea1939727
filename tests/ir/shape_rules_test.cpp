// SPDX-License-Identifier: Apache-2.0
// Every rule of every op, broken once: the message names the op and the shapes.
#include <gtest/gtest.h>

#include <set>

#include "espalier/base/error.h"
#include "espalier/ir/builder.h"

namespace espalier::ir {
namespace {

/// Types of the operands by the letter they have in a case.
const char* const kInputs = R"(graph g {
  %0 = input {name="x", role="batch"} : f32[2,3]
  %1 = input {name="y", role="batch"} : f32[4,3]
  %2 = input {name="h", role="batch"} : bf16[2,3]
  %3 = input {name="i", role="batch"} : i32[2,3]
  %4 = input {name="m", role="batch"} : bool[2,3]
  %5 = input {name="v", role="batch"} : f32[3]
  %6 = input {name="q", role="batch"} : f32[2,5,4,8]
  %7 = input {name="k", role="batch"} : f32[2,6,2,8]
  %8 = input {name="s", role="batch"} : f32[]
  %9 = input {name="n", role="batch"} : i64[]
  %10 = input {name="e", role="batch"} : f32[2,4,5]
)";

struct Case {
  Op op;
  std::string use;   // operands and attributes
  std::string want;  // fragment of the message
};

const std::vector<Case>& cases() {
  static const std::vector<Case> all{
      {Op::input, "{name=\"x\"}", "[input] attribute role is missing"},
      {Op::constant, "{dtype=f32, shape=[-2], value=1}", "negative size in [-2]"},
      {Op::constant, "{shape=[2], value=1}", "[constant] attribute dtype is missing"},
      {Op::iota, "{axis=1, dtype=i32, shape=[2]}", "[iota] axis 1 is outside i32[2]"},
      {Op::random_uniform, "%8, %9 {shape=[2], id=1}", "[random_uniform] seed and step are i64[]"},
      {Op::convert, "%0, %0 {dtype=f32}", "[convert] takes 1 operands, got 2"},
      {Op::neg, "%4", "[neg] takes numbers, got bool[2,3]"},
      {Op::abs, "%4", "[abs] takes numbers, got bool[2,3]"},
      {Op::exp, "%3", "[exp] takes a float type, got i32[2,3]"},
      {Op::log, "%3", "[log] takes a float type, got i32[2,3]"},
      {Op::sqrt, "%3", "[sqrt] takes a float type, got i32[2,3]"},
      {Op::rsqrt, "%3", "[rsqrt] takes a float type, got i32[2,3]"},
      {Op::tanh, "%3", "[tanh] takes a float type, got i32[2,3]"},
      {Op::erf, "%3", "[erf] takes a float type, got i32[2,3]"},
      {Op::sin, "%3", "[sin] takes a float type, got i32[2,3]"},
      {Op::cos, "%3", "[cos] takes a float type, got i32[2,3]"},
      {Op::floor, "%3", "[floor] takes a float type, got i32[2,3]"},
      {Op::logical_not, "%0", "[logical_not] takes bool operands of one shape, got f32[2,3]"},
      {Op::stop_gradient, "%0 {axis=1}", "[stop_gradient] attribute axis is not one of this op"},
      {Op::add, "%0, %1", "[add] operands differ: lhs f32[2,3], rhs f32[4,3]"},
      {Op::sub, "%0, %2", "[sub] operands differ: lhs f32[2,3], rhs bf16[2,3]"},
      {Op::mul, "%0, %5", "[mul] operands differ: lhs f32[2,3], rhs f32[3]"},
      {Op::div, "%0", "[div] takes 2 operands, got 1"},
      {Op::max, "%0, %1", "[max] operands differ"},
      {Op::min, "%0, %1", "[min] operands differ"},
      {Op::pow, "%3, %3", "[pow] takes a float type, got i32[2,3]"},
      {Op::eq, "%0, %1", "[eq] operands differ: lhs f32[2,3], rhs f32[4,3]"},
      {Op::ne, "%0, %1", "[ne] operands differ"},
      {Op::lt, "%0, %2", "[lt] operands differ: lhs f32[2,3], rhs bf16[2,3]"},
      {Op::le, "%0, %1", "[le] operands differ"},
      {Op::gt, "%0, %1", "[gt] operands differ"},
      {Op::ge, "%0, %1", "[ge] operands differ"},
      {Op::logical_and, "%4, %0", "[logical_and] takes bool operands of one shape, got f32[2,3]"},
      {Op::logical_or, "%0, %0", "[logical_or] takes bool operands of one shape, got f32[2,3]"},
      {Op::select, "%0, %0, %0", "[select] condition is f32[2,3] for values of type f32[2,3]"},
      {Op::select, "%4, %0, %2", "[select] values differ: f32[2,3] and bf16[2,3]"},
      {Op::broadcast, "%5 {shape=[3,3], axes=[0,1]}",
       "[broadcast] axes [0,1] do not name one result axis for each axis of f32[3]"},
      {Op::broadcast, "%5 {shape=[2,3], axes=[0]}",
       "[broadcast] axis 0 of f32[3] does not fit axis 0 of f32[2,3]"},
      {Op::broadcast, "%0 {shape=[3,2], axes=[1,0]}", "[broadcast] axes [1,0] must increase"},
      {Op::broadcast, "%5 {shape=[2,3], axes=[2]}",
       "[broadcast] axes [2] must be different axes of f32[2,3]"},
      {Op::reshape, "%0 {shape=[7]}", "[reshape] f32[2,3] has 6 elements, [7] has 7"},
      {Op::transpose, "%0 {permutation=[0]}", "[transpose] permutation [0] does not fit f32[2,3]"},
      {Op::transpose, "%0 {permutation=[1,1]}", "[transpose] permutation [1,1] must be different"},
      {Op::slice, "%0 {starts=[0], limits=[1]}",
       "[slice] starts [0] and limits [1] do not fit f32[2,3]"},
      {Op::slice, "%0 {starts=[0,2], limits=[2,4]}", "[slice] axis 1: [2,4) is outside f32[2,3]"},
      {Op::concat, "%0, %1 {axis=2}", "[concat] axis 2 is outside f32[2,3]"},
      {Op::concat, "%0, %1 {axis=1}",
       "[concat] operands differ beside axis 1: f32[2,3] and f32[4,3]"},
      {Op::pad, "%0 {low=[1], high=[0,0], value=0}",
       "[pad] low [1] and high [0,0] do not fit f32[2,3]"},
      {Op::pad, "%0 {low=[0,-1], high=[0,0], value=0}", "[pad] axis 1: negative padding -1, 0"},
      {Op::pad, "%0 {low=[9223372036854775807,0], high=[1,0], value=0}",
       "[pad] the padded size overflows"},
      {Op::reduce_sum, "%0 {axes=[2]}", "[reduce_sum] axes [2] must be different axes of f32[2,3]"},
      {Op::reduce_max, "%4 {axes=[0]}", "[reduce_max] takes numbers, got bool[2,3]"},
      {Op::dot, "%0, %2 {lhs_contract=[1], rhs_contract=[1]}",
       "[dot] takes two operands of one float type: lhs f32[2,3], rhs bf16[2,3]"},
      {Op::dot, "%0, %1 {lhs_contract=[0], rhs_contract=[0]}",
       "[dot] inner sizes differ: lhs axis 0 = 2, rhs axis 0 = 4 (lhs f32[2,3], rhs f32[4,3])"},
      {Op::dot, "%0, %1 {lhs_batch=[0], rhs_batch=[0], lhs_contract=[1], rhs_contract=[1]}",
       "[dot] batch sizes differ: lhs axis 0 = 2, rhs axis 0 = 4"},
      {Op::dot, "%0, %1 {lhs_contract=[0,1], rhs_contract=[1]}", "[dot] lhs and rhs pair 2 with 1"},
      {Op::gather, "%5, %3", "[gather] the table has rank 2, got f32[3]"},
      {Op::gather, "%0, %0", "[gather] indices are integers, got f32[2,3]"},
      {Op::scatter_add, "%0, %0 {rows=4}", "[scatter_add] indices are integers, got f32[2,3]"},
      {Op::scatter_add, "%3, %0 {rows=4}",
       "[scatter_add] updates f32[2,3] are not one row for each index of i32[2,3]"},
      {Op::layer_norm, "%0, %1, %5 {epsilon=1e-5}",
       "[layer_norm] weight f32[4,3] does not fit the last axis of f32[2,3]"},
      {Op::layer_norm, "%0, %5, %8 {epsilon=1e-5}", "[layer_norm] bias f32[] does not fit"},
      {Op::rms_norm, "%2, %5 {epsilon=1e-5}",
       "[rms_norm] weight f32[3] does not fit the last axis of bf16[2,3]"},
      {Op::softmax, "%3", "[softmax] takes a float type, got i32[2,3]"},
      {Op::softmax, "%8", "[softmax] takes at least one axis, got f32[]"},
      {Op::softmax_cross_entropy, "%0, %3",
       "[softmax_cross_entropy] labels i32[2,3] are not one integer a row of logits f32[2,3]"},
      {Op::attention, "%6, %7, %0 {scale=1}",
       "q, k, v are [batch, seq, heads, head_dim] of one type: f32[2,5,4,8], f32[2,6,2,8], "
       "f32[2,3]"},
      {Op::attention, "%7, %6, %6 {scale=1}",
       "[attention] 2 query heads are no multiple of 4 key heads"},
      {Op::attention, "%6, %7, %7, %4 {scale=1, key_mask=1}",
       "[attention] the key mask must be bool[2,6], got bool[2,3]"},
      {Op::attention, "%6, %7, %7, %3, %3 {scale=1, segments=1}",
       "[attention] query segments must be i32[2,5], got i32[2,3]"},
      {Op::attention, "%6, %7, %7, %9, %9 {scale=1, rate=1, id=1}",
       "[attention] dropout rate 1 is outside [0, 1)"},
      {Op::attention, "%6, %7, %7, %9, %9 {scale=1, rate=0.5}",
       "[attention] dropout needs a random stream"},
      {Op::attention, "%6, %7, %7, %9 {scale=1, rate=0.5, id=1}",
       "[attention] the step must be i64[], got nothing"},
      {Op::attention, "%6, %7, %7, %9 {scale=1}", "[attention] 4 operands, its attributes say 3"},
      {Op::attention_grad, "%6, %7, %7, %7, %10, %6 {scale=1}",
       "[attention_grad] out f32[2,6,2,8] and its gradient f32[2,5,4,8] have the shape of q"},
      {Op::attention_grad, "%6, %7, %7, %6, %0, %6 {scale=1}",
       "[attention_grad] log-sum-exp f32[2,3] is not [batch, heads, seq] of f32[2,5,4,8]"},
      {Op::attention, "%6, %7, %7, %9, %9 {scale=1, rate=0.5, id=1, whole=[2,6,5,6], cut=\"-\"}",
       "[attention] [2,4,5,6] is no piece of [2,6,5,6]"},
      {Op::random_uniform, "%9, %9 {shape=[2], id=1, whole=[4]}",
       "[random_uniform] attributes whole and cut come together"},
      {Op::random_uniform, "%9, %9 {shape=[2], id=1, whole=[5], cut=\"(data)\"}",
       "[random_uniform] [2] is no piece of [5]"},
      {Op::axis_index, "{mesh_axes=\"data\", devices=0}",
       "[axis_index] a group of 0 devices along \"data\" is none"},
      {Op::axis_index, "{mesh_axes=\"\", devices=2}",
       "[axis_index] a group of 2 devices along \"\" is none"},
      {Op::shard_slice, "%0 {mesh_axes=\"data\", devices=2, axis=1}",
       "[shard_slice] 2 devices along data do not divide axis 1 of f32[2,3]"},
      {Op::shard_slice, "%0 {mesh_axes=\"data\", devices=2, axis=2}",
       "[shard_slice] axis 2 is outside f32[2,3]"},
      {Op::all_reduce, "%4 {mesh_axes=\"data\", devices=2}",
       "[all_reduce] takes numbers, got bool[2,3]"},
      {Op::all_reduce, "%0 {mesh_axes=\"data\", devices=2, reduction=\"min\"}",
       "[all_reduce] reduction \"min\" is neither sum nor max"},
      {Op::all_gather, "%0 {mesh_axes=\"data\", devices=2, axis=-1}",
       "[all_gather] axis -1 is outside f32[2,3]"},
      {Op::all_gather, "%0 {mesh_axes=\"data\", devices=9223372036854775807, axis=0}",
       "[all_gather] the size of the gathered axis overflows"},
      {Op::reduce_scatter, "%0 {mesh_axes=\"data,model\", devices=4, axis=0}",
       "[reduce_scatter] 4 devices along data,model do not divide axis 0 of f32[2,3]"},
      {Op::reduce_scatter, "%4 {mesh_axes=\"data\", devices=2, axis=0}",
       "[reduce_scatter] takes numbers, got bool[2,3]"},
      {Op::fusion, "%0 {body=3}", "fusion body 3 does not exist"},
      {Op::matmul, "%0, %1 {lhs_contract=[0], rhs_contract=[0]}",
       "[matmul] inner sizes differ: lhs axis 0 = 2, rhs axis 0 = 4"},
      {Op::matmul, "%0, %1, %5 {lhs_contract=[1], rhs_contract=[1], bias=1}",
       "[matmul] the bias does not fit the last axis of f32[2,4]"},
      {Op::matmul, "%0, %1, %0 {lhs_contract=[1], rhs_contract=[1], accumulate=1}",
       "[matmul] the addend is not of type f32[2,4]"},
      {Op::matmul, "%0, %1, %5 {lhs_contract=[1], rhs_contract=[1]}",
       "[matmul] 3 operands, its attributes say 2"},
  };
  return all;
}

TEST(ShapeRules, BrokenUseNamesOpAndShapes) {
  for (const Case& c : cases()) {
    const std::string text =
        kInputs +
        fmt::format("  %11 = {} {} : f32[1] @\"layers.0\"\n  return y=%11\n}}", name(c.op), c.use);
    std::string got;
    try {
      parse(text);
    } catch (const Error& error) {
      got = error.what();
    }
    EXPECT_NE(got.find(c.want), std::string::npos)
        << name(c.op) << ' ' << c.use << "\ngot:  " << got << "\nwant: " << c.want;
  }
}

TEST(ShapeRules, EveryOpHasAFailingCase) {
  std::set<Op> seen;
  for (const Case& c : cases()) seen.insert(c.op);
  for (int i = 0; i < kOpCount; ++i) {
    EXPECT_EQ(seen.count(static_cast<Op>(i)), 1u) << name(static_cast<Op>(i));
  }
}

TEST(OpTable, RowsStandInTheOrderOfTheEnum) {
  for (int i = 0; i < kOpCount; ++i) {
    const OpInfo& row = info(static_cast<Op>(i));
    EXPECT_EQ(row.op, static_cast<Op>(i)) << row.name;
    EXPECT_EQ(parse_op(row.name), row.op);
  }
}

std::string verify_error(const Graph& graph) {
  try {
    verify(graph);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::internal);
    return error.what();
  }
  return "";
}

void expect_verify_error(const Graph& graph, std::initializer_list<std::string> fragments) {
  const std::string got = verify_error(graph);
  for (const std::string& want : fragments) {
    EXPECT_NE(got.find(want), std::string::npos) << got << "\nwant: " << want;
  }
}

TEST(Verify, NamesNodeScopeAndTypes) {
  Builder b("g");
  const Value x = b.input("x", {DType::f32, {2, 3}}, "batch");
  b.set_scope("layers.3.mlp");
  b.add_typed(Op::exp, {x}, {}, {{DType::f32, {3, 2}}});
  expect_verify_error(b.finish(), {"[verify] exp has result f32[3,2], its rule says f32[2,3]",
                                   "%1 = exp in graph g, scope \"layers.3.mlp\""});
}

TEST(Verify, RefusesAResultThatDoesNotExist) {
  Builder b("g");
  const Value x = b.input("x", {DType::f32, {2}}, "batch");
  b.add_typed(Op::exp, {{x.node, 1}}, {}, {{DType::f32, {2}}});
  expect_verify_error(b.finish(), {"operand %0 has no result 1"});
}

TEST(Verify, ChecksRulesThatTheBuilderSkipped) {
  Builder b("g");
  const Value x = b.input("x", {DType::f32, {2}}, "batch");
  const Value y = b.input("y", {DType::f32, {3}}, "batch");
  b.add_typed(Op::add, {x, y}, {}, {{DType::f32, {2}}});
  EXPECT_THROW(verify(b.finish()), Error);
  Builder c("h");
  c.add_typed(Op::input, {}, {}, {{DType::f32, {2}}});
  EXPECT_THROW(verify(c.finish()), Error);
}

TEST(Verify, FusionMustFitItsBody) {
  const auto body = [] {
    Builder b("body");
    const Value x = b.input("x", {DType::f32, {2}}, "operand");
    b.output("y", b.add(Op::neg, {x}));
    return std::make_shared<const Graph>(b.finish());
  };
  const auto fused = [&](Shape operand, Shape result, int copies) {
    Builder b("g");
    const Value x = b.input("x", {DType::f32, operand}, "batch");
    const int64_t index = b.add_body(body());
    b.add_typed(Op::fusion, std::vector<Value>(static_cast<size_t>(copies), x),
                {{Attr::body, index}}, {{DType::f32, result}});
    return b.finish();
  };
  EXPECT_EQ(verify_error(fused({2}, {2}, 1)), "");
  expect_verify_error(fused({3}, {2}, 1), {"fusion operand 0 is f32[3], the body takes f32[2]"});
  expect_verify_error(fused({2}, {3}, 1), {"fusion result 0 is f32[3], the body makes f32[2]"});
  expect_verify_error(fused({2}, {2}, 2),
                      {"fusion with 2 operands and 1 results has a body with 1 and 1"});
}

TEST(Builder, RuleErrorsAreOfTheUserAndNameTheScope) {
  Builder b("g");
  const Value x = b.input("x", {DType::f32, {2}}, "batch");
  const Value y = b.input("y", {DType::f32, {3}}, "batch");
  Builder::Scope outer(b, "layers.0");
  Builder::Scope inner(b, "mlp");
  try {
    b.add(Op::add, {x, y});
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::user);
    EXPECT_NE(std::string(error.what()).find("layers.0.mlp"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace espalier::ir
