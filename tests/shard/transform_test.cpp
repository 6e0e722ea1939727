// SPDX-License-Identifier: Apache-2.0
#include "espalier/shard/transform.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/errors.h"

namespace espalier::shard {
namespace {

using test::error_of;
using ::testing::HasSubstr;

TEST(Transform, ReadsItsOwnText) {
  for (const std::string text :
       {"column_parallel(model)", "column_parallel(model, 3)", "row_parallel(model)",
        "fully_shard(data)", "fully_shard(data, 4096)", "tensor_parallel(model, 1)", "replicate",
        "freeze", "with_dtype(bf16)"}) {
    EXPECT_EQ(Transform::parse(text).str(), text);
  }
  EXPECT_EQ(Transform::parse(" tensor_parallel( model , 1 ) ").dim, 1);
  EXPECT_EQ(Transform::parse("replicate()").kind, TransformKind::replicate);
}

TEST(Transform, WrongTextsSayWhatToWrite) {
  EXPECT_THAT(error_of([] { Transform::parse("colum_parallel(model)"); }),
              HasSubstr("[plan] no transform is called \"colum_parallel\"; nearest: "
                        "column_parallel"));
  EXPECT_THAT(error_of([] { Transform::parse("column_parallel"); }),
              HasSubstr("\"column_parallel\" cannot be read; write column_parallel(AXIS)"));
  for (const std::string text :
       {"column_parallel(a, b)", "column_parallel(a, 0)", "column_parallel(a", "tensor_parallel(a)",
        "tensor_parallel(a, -1)", "fully_shard()", "fully_shard(a, b)", "with_dtype(i32)",
        "with_dtype(f3)", "freeze(a)"}) {
    EXPECT_THAT(error_of([&] { Transform::parse(text); }), HasSubstr("cannot be read; write"))
        << text;
  }
}

TEST(RuleText, SplitsAtTheLastEqualsSign) {
  const RuleText rule = RuleText::parse("*.a=b=row_parallel(model) optional");
  EXPECT_EQ(rule.glob, "*.a=b");
  EXPECT_EQ(rule.transform.str(), "row_parallel(model)");
  EXPECT_TRUE(rule.optional);
  EXPECT_THAT(error_of([] { RuleText::parse("*.dense"); }),
              HasSubstr("rule \"*.dense\" is not GLOB=TRANSFORM"));
}

TEST(Place, NamesBothSizesWhereTheAxisDoesNotDivide) {
  const Mesh mesh = Mesh::parse("data=2,model=5");
  PartitionSpec spec;
  EXPECT_THAT(error_of([&] {
                place(spec, {768, 3072}, 1, "model", mesh);
              }),
              HasSubstr("axis model of 5 devices does not divide dimension 1 of [768,3072], of "
                        "size 3072"));
  EXPECT_TRUE(spec.replicated());
  place(spec, {10, 4}, 0, "model", mesh);
  place(spec, {10, 4}, 0, "model", mesh);  // again: nothing changes
  EXPECT_EQ(spec.cuts().size(), 1u);
  place(spec, {10, 4}, 0, "data", mesh);
  EXPECT_EQ(spec.str(2), "((model,data),-)");
}

TEST(PlaceLargest, TakesTheLargestDimensionThatIsLeftAndDivides) {
  const Mesh mesh = Mesh::parse("data=2,model=2");
  PartitionSpec spec;
  EXPECT_TRUE(place_largest(spec, {6, 8, 10}, "data", mesh));
  EXPECT_EQ(spec.dim_of("data"), 2);
  // Tensor parallel first: the dimension that is cut is as large as the other, which is taken.
  PartitionSpec tensor_first{{"model"}, {}};
  EXPECT_TRUE(place_largest(tensor_first, {512, 256}, "data", mesh));
  EXPECT_EQ(tensor_first.str(2), "(model,data)");
  PartitionSpec odd;
  EXPECT_TRUE(place_largest(odd, {9, 4}, "data", mesh));
  EXPECT_EQ(odd.str(2), "(-,data)");
  PartitionSpec none;
  EXPECT_FALSE(place_largest(none, {9, 7}, "data", mesh));
  EXPECT_TRUE(none.replicated());
  EXPECT_TRUE(place_largest(spec, {6, 8, 10}, "data", mesh));  // already cut
  EXPECT_EQ(spec.cuts().size(), 1u);
}

TEST(PlanFile, ReadsPlansInOrder) {
  const auto plans = parse_plans(R"toml(
[[plan]]
name = "tp"
[[plan.rule]]
match = "*.intermediate.dense"
apply = "column_parallel(model)"
[[plan.rule]]
match = "*.pooler"
apply = "freeze"
optional = true
[[plan]]
[[plan.rule]]
match = "*"
apply = "fully_shard(data, 16)"
)toml",
                                 "p.toml");
  ASSERT_EQ(plans.size(), 2u);
  EXPECT_EQ(plans[0].name, "tp");
  EXPECT_EQ(plans[0].rules[0].transform.str(), "column_parallel(model)");
  EXPECT_TRUE(plans[0].rules[1].optional);
  EXPECT_EQ(plans[1].rules[0].transform.min_size, 16);
  EXPECT_EQ(parse_plans("[[rule]]\nmatch='*'\napply='replicate'", "p.toml").size(), 1u);
}

TEST(PlanFile, ErrorsNameFileAndLine) {
  const auto error = [](std::string_view text) {
    return error_of([&] { parse_plans(text, "p.toml"); });
  };
  EXPECT_THAT(error("a = ["), HasSubstr("p.toml:1 is not TOML"));
  EXPECT_THAT(error("[[rul]]\nmatch = 'a'"),
              HasSubstr("unknown key \"rul\" at p.toml:1; nearest: rule"));
  EXPECT_THAT(error("[[rule]]\nmatch = 'a'\n"), HasSubstr("the rule at p.toml:1 has no \"apply\""));
  EXPECT_THAT(error("[[rule]]\nmatch = 3\napply = 'freeze'"),
              HasSubstr("\"match\" must be a string at p.toml:2"));
  EXPECT_THAT(error("[[rule]]\nmatch = 'a'\napply = 'freez'"),
              HasSubstr("no transform is called \"freez\"; nearest: freeze (at p.toml:3)"));
  EXPECT_THAT(error("[[rule]]\nmatch = '*.[a'\napply = 'freeze'"),
              HasSubstr("of pattern \"*.[a\" is never closed; write \"[[]\" for the character "
                        "itself (at p.toml:2)"));
  EXPECT_THAT(error("[[rule]]\nmatch = 'a'\napply = 'freeze'\noptional = 1"),
              HasSubstr("\"optional\" must be true or false at p.toml:4"));
  EXPECT_THAT(error("rule = 3"),
              HasSubstr("\"rule\" must be a list of tables, [[rule]], at p.toml:1"));
  EXPECT_THAT(error(""), HasSubstr("p.toml has no rule"));
  EXPECT_THAT(error_of([] { read_plan_file("/nowhere/p.toml"); }),
              HasSubstr("cannot read the plan file /nowhere/p.toml"));
}

TEST(Preset, UnknownOnesNameTheNearest) {
  EXPECT_EQ(preset("bert-tp").at(0).rules.size(), 6u);
  EXPECT_EQ(preset("bert-tp+fsdp").size(), 2u);
  EXPECT_THAT(error_of([] { preset("bert_tp"); }),
              HasSubstr("no preset is called \"bert_tp\"; nearest: bert-tp; there are"));
}

}  // namespace
}  // namespace espalier::shard
