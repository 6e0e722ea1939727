// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <limits>

#include "espalier/base/error.h"
#include "espalier/ir/builder.h"
#include "espalier/ir/tensor.h"

namespace espalier::ir {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

void expect_round_trip(const Graph& graph) {
  const std::string text = print(graph);
  const Graph again = parse(text);
  EXPECT_TRUE(equal(graph, again)) << text;
  EXPECT_EQ(text, print(again));
}

Graph small_graph() {
  Builder b("byte_lm");
  const Tensor x(b, b.input("batch.x", {DType::f32, {2, 3}}, "batch"));
  const Value w = b.input("param.w", {DType::f32, {4, 3}}, "parameter");
  Builder::Scope scope(b, "layers.0");
  const Tensor y = linear(x, {b, w});
  const Tensor z = Tensor(b, w) * 0.5;
  b.output("loss", mean(y, {0, 1}).value());
  b.output("param.w", z.value(), w);
  return b.finish();
}

/// The error of parsing `text`, or "" when it parses.
std::string parse_error(std::string_view text) {
  try {
    parse(text);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::data) << error.what();
    return error.what();
  }
  return "";
}

TEST(Print, IsReadable) {
  EXPECT_EQ(print(small_graph()), R"(graph byte_lm {
  %0 = input {name="batch.x", role="batch"} : f32[2,3]
  %1 = input {name="param.w", role="parameter"} : f32[4,3]
  %2 = dot %0, %1 {lhs_contract=[1], rhs_contract=[1]} : f32[2,4] @"layers.0"
  %3 = constant {dtype=f32, shape=[4,3], value=0.5} : f32[4,3] @"layers.0"
  %4 = mul %1, %3 : f32[4,3] @"layers.0"
  %5 = reduce_sum %2 {axes=[0,1]} : f32[] @"layers.0"
  %6 = constant {dtype=f32, shape=[], value=0.125} : f32[] @"layers.0"
  %7 = mul %5, %6 : f32[] @"layers.0"
  return loss=%7, param.w=%4 -> %1
}
)");
}

TEST(RoundTrip, SmallGraph) { expect_round_trip(small_graph()); }

TEST(RoundTrip, EmptyGraph) { expect_round_trip(Builder("nothing").finish()); }

TEST(RoundTrip, EveryDoubleSurvives) {
  Builder b;
  for (double value : {0.0, -0.0, 1.0, 0.1, 1.0 / 3.0, -1e-5, 1e300, 5e-324, kInf, -kInf, kNan,
                       std::numeric_limits<double>::max(), 123456789012345678.0}) {
    b.output("c", b.constant(value, DType::f64, {2, 0}));
  }
  expect_round_trip(b.finish());
}

TEST(RoundTrip, StrangeNamesAndScopes) {
  Builder b("a graph, with \"quotes\"\n");
  b.set_scope("layers.0.\\ \x01 \xC3\xA9");
  const Value x = b.input("tab\tname", {DType::u8, {}}, "batch");
  b.output("", x);
  b.output("1x", x);
  b.output("return", x);
  b.output("body", x);
  expect_round_trip(b.finish());
}

TEST(RoundTrip, SeveralResultsAndOptionalOperands) {
  Builder b;
  const Value q = b.input("q", {DType::bf16, {1, 4, 4, 8}}, "batch");
  const Value k = b.input("k", {DType::bf16, {1, 6, 2, 8}}, "batch");
  const Value mask = b.input("mask", {DType::boolean, {1, 6}}, "batch");
  const Value seed = b.input("seed", {DType::i64, {}}, "scalar");
  const Value out = b.add(Op::attention, {q, k, k, mask, seed, seed},
                          {{Attr::scale, 0.25},
                           {Attr::causal, int64_t{1}},
                           {Attr::key_mask, int64_t{1}},
                           {Attr::rate, 0.1},
                           {Attr::id, int64_t{9007199254740991}},
                           {Attr::dtype, DType::f32}});
  b.output("out", out);
  b.output("lse", {out.node, 1});
  expect_round_trip(b.finish());
}

std::shared_ptr<const Graph> square_body(bool nested) {
  Builder b("square");
  const Value x = b.input("x", {DType::f32, {3}}, "operand");
  Value y = b.add(Op::mul, {x, x});
  if (nested) {
    const int64_t body = b.add_body(square_body(false));
    y = b.add_typed(Op::fusion, {y}, {{Attr::body, body}}, {{DType::f32, {3}}});
  }
  b.output("y", y);
  return std::make_shared<const Graph>(b.finish());
}

TEST(RoundTrip, FusionBodiesAlsoNested) {
  Builder b("fused");
  const Value x = b.input("x", {DType::f32, {3}}, "batch");
  Value y = x;
  for (bool nested : {false, true}) {
    const int64_t body = b.add_body(square_body(nested));
    y = b.add_typed(Op::fusion, {y}, {{Attr::body, body}}, {{DType::f32, {3}}});
  }
  b.output("y", y);
  const Graph graph = b.finish();
  verify(graph);
  expect_round_trip(graph);
  EXPECT_EQ(print(graph).substr(0, 14), "body 0 square ");
}

TEST(Equal, SeesEveryDifference) {
  const Graph graph = small_graph();
  const std::string text = print(graph);
  const std::pair<std::string, std::string> edits[]{
      {"byte_lm", "other"},          {"batch.x", "batch.y"}, {"role=\"batch\"", "role=\"state\""},
      {"value=0.125", "value=0.25"}, {"mul %5", "add %5"},   {"mul %5, %6", "mul %6, %5"},
      {"layers.0", "layers.1"},      {"loss=", "lost="},     {" -> %1", ""}};
  for (const auto& [from, to] : edits) {
    std::string edited = text;
    edited.replace(edited.find(from), from.size(), to);
    EXPECT_FALSE(equal(graph, parse(edited))) << from;
  }
}

TEST(Parse, TakesCommentsFreeSpaceAndAnyLabels) {
  const Graph graph = parse(R"(
    # a comment
    graph g{%7=input{name="x",role="batch"}:f32[2]  # another
      %3 = neg
        %7 : f32 [2]
      return y = %3.0 })");
  EXPECT_EQ(print(graph), R"(graph g {
  %0 = input {name="x", role="batch"} : f32[2]
  %1 = neg %0 : f32[2]
  return y=%1
}
)");
}

TEST(Parse, MalformedTextNamesThePlace) {
  const std::string x = "graph g {\n  %0 = input {name=\"x\", role=\"batch\"} : f32[2]\n";
  const std::pair<std::string, std::string> cases[]{
      {"", "1:1: expected \"graph\", found the end"},
      {"graf g {}", "expected \"graph\", found \"graf\""},
      {"graph {", "1:7: expected a word"},
      {x, "3:1: expected \"return\", found the end"},
      {x + "}", "3:1: expected \"return\", found \"}\""},
      {x + "  return x=%0", "3:14: expected \"}\", found the end"},
      {x + "  return x=%1\n}", "3:12: %1 is not defined yet"},
      {x + "  return x=%0.1\n}", "3:12: %0 has 1 results, none with index 1"},
      {x + "  return x=%0.-1\n}", "none with index -1"},
      {x + "  return x %0\n}", "3:12: expected \"=\", found \"%\""},
      {x + "  return x=%0\n} more", "4:3: text after the graph"},
      {x + "  %0 = neg %0 : f32[2]\n  return\n}", "3:4: %0 is defined twice"},
      {x + "  %1 = neg %1 : f32[2]\n  return\n}", "3:12: %1 is not defined yet"},
      {x + "  %1 = nag %0 : f32[2]\n  return\n}", "3:8: no op nag; nearest: neg"},
      {x + "  %1 = neg %0 : f31[2]\n  return\n}", "3:17: no dtype f31; nearest: f32"},
      {x + "  %1 = neg %0 : f32[3]\n  return\n}",
       "3:17: neg gives 1 results, result 0 is f32[2]; the text says f32[3]"},
      {x + "  %1 = neg %0 : f32[2], f32[2]\n  return\n}", "result 1 is none"},
      {x + "  %1 = neg %0, %0 : f32[2]\n  return\n}", "3:4: [neg] takes 1 operands, got 2"},
      {x + "  %1 = neg %0 {axi=1} : f32[2]\n  return\n}", "no attribute axi; nearest: axis"},
      {x + "  %1 = neg %0 {axis=1} : f32[2]\n  return\n}", "[neg] attribute axis is not one of"},
      {x + "  %1 = neg %0 {remat=1, remat=1} : f32[2]\n  return\n}", "remat is given twice"},
      {x + "  %1 = neg %0 {remat=99999999999999999999} : f32[2]\n  return\n}",
       "an integer out of range"},
      {x + "  %1 = constant {dtype=f32, shape=[], value=x} : f32[]\n  return\n}",
       "expected a number"},
      {x + "  %1 = constant {dtype=f32, shape=[], value=1e999} : f32[]\n  return\n}",
       "a number out of range"},
      {x + "  %1 = constant {dtype=f32, shape=[-1], value=1} : f32[-1]\n  return\n}",
       "negative size in [-1]"},
      {x + "  %1 = input {name=\"y\"} : f32[2]\n  return\n}", "attribute role is missing"},
      {x + "  %1 = input {name=\"y, role=\"batch\"} : f32[2]\n  return\n}", "expected \"}\""},
      {x + "  %1 = input {name=\"y\n\"} : f32[2]\n  return\n}", "3:20: the text has no closing"},
      {x + "  %1 = input {name=\"\\q\"} : f32[2]\n  return\n}", "an escape is"},
      {x + "  %1 = input {name=\"y\", role=\"batch\"} : f32[4611686018427387904,4]\n return\n}",
       "does not fit 64 bits"},
      {x + "  %1 = fusion %0 {body=0} : f32[2]\n  return y=%1\n}", "fusion body 0 does not exist"},
      {x + "  %1 = neg %0 : f32[2]\n  return y=%1 -> %1\n}", "cannot replace neg"},
      {"body 1 b { return }\n" + x + "return }", "1:1: body 1 comes where body 0 belongs"},
  };
  for (const auto& [text, want] : cases) {
    const std::string got = parse_error(text);
    EXPECT_NE(got.find(want), std::string::npos) << text << "\ngot:  " << got << "\nwant: " << want;
  }
}

TEST(Parse, EveryPrefixAndEveryLostByteIsAnErrorOrAGraph) {
  const std::string text = print(small_graph());
  for (size_t i = 0; i + 3 < text.size(); ++i) {
    EXPECT_NE(parse_error(text.substr(0, i)), "") << i;
    std::string lost = text;
    lost.erase(i, 1);
    parse_error(lost);
  }
}

TEST(Parse, BodiesNestedTooDeepAreRefused) {
  std::string text;
  for (int i = 0; i < 100000; ++i) text += "body 0 b {";
  EXPECT_NE(parse_error(text).find("nested too deep"), std::string::npos);
}

TEST(Attrs, ChangingACopyLeavesTheOther) {
  const Attrs first{{Attr::axis, int64_t{1}}, {Attr::epsilon, 0.5}};
  Attrs copy = first;
  copy.set(Attr::axis, int64_t{2});
  EXPECT_EQ(first.integer(Attr::axis), 1);
  EXPECT_EQ(copy.integer(Attr::axis), 2);
  EXPECT_FALSE(copy == first);
  copy.set(Attr::axis, int64_t{1});
  EXPECT_TRUE(copy == first) << "equal lists need not be one list";
  copy.erase(Attr::epsilon);
  EXPECT_FALSE(copy.has(Attr::epsilon));
  EXPECT_EQ(first.real(Attr::epsilon), 0.5);
}

}  // namespace
}  // namespace espalier::ir
