// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/plan_job.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "espalier/train/bench_plans.h"
#include "tests/support/errors.h"

namespace espalier::train {
namespace {

using shard::Collective;
using shard::CollectiveKind;
using test::error_of;
using ::testing::HasSubstr;

PlanJobOptions options(const std::string& model, const std::string& mesh,
                       const std::string& preset) {
  PlanJobOptions o;
  o.model = model;
  o.mesh = shard::Mesh::parse(mesh);
  if (!preset.empty()) o.plans = shard::preset(preset);
  o.device = shard::load_device("h100");
  o.labelled = 1.0;
  return o;
}

const Collective* find(const shard::Cost& cost, CollectiveKind kind, std::string_view what) {
  for (const Collective& c : cost.collectives) {
    if (c.kind == kind && c.what == what) return &c;
  }
  return nullptr;
}

TEST(PlanJob, BertBaseNeedsTheWorkOfTheTextbooks) {
  // 21.4 TFLOP of products and 1.9 of attention for 64 x 512, head on all positions.
  const PlanAnswer a = plan_model(options("bert-base", "", ""));
  EXPECT_NEAR(a.cost.flops, 23.3e12, 0.05e12);
  EXPECT_EQ(a.cost.parameters, 109'514'298);
  EXPECT_EQ(a.cost.parameter_bytes, 4.0 * 109'514'298);
  EXPECT_EQ(a.cost.moment_bytes, 8.0 * 109'514'298);
  EXPECT_TRUE(a.cost.collectives.empty());
}

TEST(PlanJob, DataParallelMovesEveryGradient) {
  const PlanAnswer a = plan_model(options("bert-base", "data=8", ""));
  ASSERT_EQ(a.cost.collectives.size(), 1u);
  const Collective& c = a.cost.collectives[0];
  EXPECT_EQ(c.count, 13);  // 12 layers and the rest
  EXPECT_EQ(c.bytes, 4.0 * 109'514'298);
  EXPECT_DOUBLE_EQ(c.sent_bytes, 2.0 * 7 / 8 * 4.0 * 109'514'298);
}

TEST(PlanJob, MegatronSumsActivationsFourTimesALayer) {
  const PlanAnswer a = plan_model(options("bert-base", "data=2,model=4", "bert-tp"));
  const double each = 32.0 * 512 * 768 * 2;  // 32 samples a device, bf16
  for (const std::string what : {"activations, forward", "activations, backward"}) {
    const Collective* c = find(a.cost, CollectiveKind::all_reduce, what);
    ASSERT_NE(c, nullptr) << what;
    EXPECT_EQ(c->count, 24);
    EXPECT_EQ(c->bytes, 24 * each);
    EXPECT_EQ(c->axis, "model");
  }
  EXPECT_EQ(find(a.cost, CollectiveKind::all_gather, "activations, forward"), nullptr);
  EXPECT_EQ(a.report.hit_count(), 72);
}

TEST(PlanJob, TheHundredLayersFitWhenTheyAreCut) {
  PlanJobOptions o = options("bert-100l-5120h", "data=8,model=8", "bert-tp+fsdp");
  const PlanAnswer a = plan_model(o);
  EXPECT_EQ(a.params.size(), 1610u);
  EXPECT_TRUE(a.cost.fits);
  // Four f32 values a parameter, in 64 parts; a little is held by every device of an axis.
  const double state = a.cost.parameter_bytes + a.cost.gradient_bytes + a.cost.moment_bytes;
  constexpr double kWanted = 16.0 * 31.65e9 / 64;
  EXPECT_NEAR(state, kWanted, 0.05 * kWanted);
  o.mesh = shard::Mesh::parse("data=1,model=1");
  EXPECT_FALSE(plan_model(o).cost.fits);
}

TEST(PlanJob, TextNamesRulesPlacesTotalsAndLimit) {
  const PlanAnswer a = plan_model(options("bert-4l-768h", "data=2,model=2", "bert-tp"));
  const std::string text = plan_text(a, false);
  for (const std::string part :
       {"shadowed: rule 2 takes all 4 matches first",
        "bert.encoder.layer.[0-3].attention.self.query.weight", "f32[768,768]", "(model,-)",
        "2: row_parallel(model)", "(also cls.predictions.decoder.weight)", "52.8M parameters in 74",
        "all-reduce     over model", "limits"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
  EXPECT_THAT(plan_text(a, true), HasSubstr("bert.encoder.layer.2.output.dense.bias"));
}

TEST(PlanJob, JsonHoldsEveryParameter) {
  const auto json = nlohmann::json::parse(
      plan_json(plan_model(options("bert-4l-768h", "data=1,model=2", "bert-tp"))));
  EXPECT_EQ(json["params"].size(), 74u);
  EXPECT_EQ(json["hits"], 24);
  EXPECT_EQ(json["rules"][5]["shadowed_by"], 1);
  EXPECT_EQ(json["params"][0]["tied_paths"][0], "cls.predictions.decoder.weight");
  EXPECT_GT(json["seconds"]["step"].get<double>(), 0.0);
}

TEST(PlanJob, HtmlIsOnePageWithABoxForEachGroup) {
  const PlanAnswer a = plan_model(options("bert-100l-5120h", "data=8,model=8", "bert-tp+fsdp"));
  const std::string html = plan_html(a);
  // A line may be broken after a dot.
  EXPECT_THAT(html,
              HasSubstr("bert.<wbr>encoder.<wbr>layer.<wbr>[0-99].<wbr>output.<wbr>dense.<wbr>"
                        "weight"));
  EXPECT_EQ(html.find("http"), std::string::npos);
  EXPECT_LT(html.size(), 100'000u);
}

TEST(PlanJob, SweepRanksEveryMeshAndSaysWhyOneCannotBe) {
  PlanJobOptions o = options("bert-base", "", "bert-tp");
  o.batch = 72;
  const std::vector<SweepRow> rows = sweep(o, 36);
  EXPECT_EQ(rows.size(), 9u);  // divisors of 36
  bool failed = false;
  double last = 0.0;
  for (const SweepRow& row : rows) {
    if (!row.error.empty()) {
      failed = true;
      continue;
    }
    EXPECT_FALSE(failed) << "errors come last";
    EXPECT_GE(row.cost.step_seconds, last);
    last = row.cost.step_seconds;
  }
  EXPECT_TRUE(failed);
  EXPECT_THAT(sweep_text(rows, o), HasSubstr("data=4,model=9"));
  EXPECT_EQ(nlohmann::json::parse(sweep_json(rows))["sweep"].size(), 9u);
}

TEST(PlanJob, TheByteLmHasAWorkloadToo) {
  PlanJobOptions o = options("byte-lm", "data=2,model=4", "");
  o.plans = {{"tp",
              {shard::RuleText::parse("*.attention.qkv=column_parallel(model)"),
               shard::RuleText::parse("*.attention.out=row_parallel(model)"),
               shard::RuleText::parse("*.mlp.up=column_parallel(model)"),
               shard::RuleText::parse("*.mlp.down=row_parallel(model)")}}};
  o.batch = 2;
  const PlanAnswer a = plan_model(o);
  EXPECT_EQ(find(a.cost, CollectiveKind::all_reduce, "activations, forward")->count, 16);
  // One sequence of 40.47 GFLOP, a quarter of it here but for the decoder.
  EXPECT_NEAR(a.cost.flops, 40.47e9 / 4, 0.5e9);
}

TEST(PlanJobErrors, AreNamed) {
  EXPECT_THAT(error_of([] { plan_model(options("bert-bas", "", "")); }),
              HasSubstr("[plan] \"bert-bas\" is neither a file nor a model (bert-base, "
                        "bert-100l-5120h, byte-lm; bert-LAYERSl-HIDDENh); nearest: bert-base"));
  PlanJobOptions o = options("bert-base", "data=3", "");
  EXPECT_THAT(error_of([&] { plan_model(o); }),
              HasSubstr("a batch of 64 samples cannot be dealt out to 3 groups"));
  o = options("bert-base", "", "");
  o.seq = 1024;
  EXPECT_THAT(error_of([&] { plan_model(o); }),
              HasSubstr("1024 positions are more than the 512 of bert-base"));
  EXPECT_THAT(error_of([] { plan_model(options("bert-base", "data=2", "bert-tp")); }),
              HasSubstr("the mesh data=2 has no axis model; nearest: data"));
}

TEST(PlanBench, FitsALine) {
  const LinearFit fit = fit_line({1, 2, 3}, {3, 5, 7});
  EXPECT_NEAR(fit.slope, 2.0, 1e-12);
  EXPECT_NEAR(fit.offset, 1.0, 1e-12);
  EXPECT_NEAR(fit.r2, 1.0, 1e-12);
}

TEST(PlanBench, CountsLeavesAndHitsOfEveryConfiguration) {
  const auto results = bench_plans({.repeats = 1, .module_opt_limit = 0});
  ASSERT_EQ(results.size(), 6u);
  const int64_t leaves[] = {42, 74, 74, 138, 202, 1610};
  const int64_t hits[] = {12, 24, 24, 48, 72, 600};
  for (size_t i = 0; i < results.size(); ++i) {
    EXPECT_EQ(results[i].leaves, leaves[i]);
    EXPECT_EQ(results[i].hits, hits[i]);
    EXPECT_EQ(results[i].transforms, hits[i]);
    const auto json = nlohmann::json::parse(plan_bench_json(results[i]));
    for (const char* key : {"leaves", "transforms", "hits", "build_ms", "resolve_apply_ms"}) {
      EXPECT_TRUE(json.contains(key)) << key;
    }
  }
  EXPECT_THAT(plan_bench_text(results), HasSubstr("us a leaf"));
}

}  // namespace
}  // namespace espalier::train
