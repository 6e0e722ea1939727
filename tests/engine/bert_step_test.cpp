// SPDX-License-Identifier: Apache-2.0
// BERT's training step as the benchmarks make it: recomputation, and the same step by hand.
#include <gtest/gtest.h>

#include <cstring>

#include "espalier/backend/executable.h"
#include "espalier/train/bench_overhead.h"
#include "tests/support/errors.h"

namespace espalier::train {
namespace {

BertBenchSetting small(double dropout) {
  return {.layers = 3,
          .hidden = 32,
          .heads = 2,
          .batch = 2,
          .seq = 48,
          .dropout = dropout,
          .remat = {}};
}

struct Gradients {
  std::map<std::string, std::vector<double>> values;
  CompileStats stats;
};

Gradients gradients_of(const BertBenchSetting& setting, DType dtype) {
  Step step =
      make_train_step(models::BertForMaskedLm(setting.config()),
                      [&](const models::BertForMaskedLm& model, const Trace& trace) {
                        return bert_bench_loss(setting, model, trace);
                      },
                      bert_bench_optimizer(),
                      {.compile = {.compute_dtype = dtype, .remat = setting.remat, .threads = 2},
                       .gradients = true});
  step.initialize(3);
  BertBenchBatch batch(setting, 1);
  batch.feed(step, 0);
  step.run();
  Gradients result{.values = {}, .stats = step.executable().stats()};
  for (const ir::Output& output : step.graph().outputs()) {
    if (output.name.starts_with("grad.")) {
      result.values[output.name] = step.executable().output(output.name).to_doubles();
    }
  }
  return result;
}

TEST(BertStep, RematGivesTheSameGradientsBitwiseInLessMemory) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    BertBenchSetting setting = small(0.1);
    setting.batch = 16;  // activations outweigh the gradient of the word embedding
    setting.seq = 128;
    const Gradients kept = gradients_of(setting, dtype);
    EXPECT_EQ(kept.values.size(), 10u + 16u * 3u);
    for (const char* glob : {"layer.*", "layer.*.mlp", "layer.*.attention"}) {
      setting.remat = {glob};
      const Gradients again = gradients_of(setting, dtype);
      for (const auto& [name, values] : kept.values) {
        EXPECT_EQ(std::memcmp(again.values.at(name).data(), values.data(),
                              values.size() * sizeof(double)),
                  0)
            << name << " " << glob << " " << espalier::name(dtype);
      }
      EXPECT_LT(again.stats.arena_bytes, kept.stats.arena_bytes) << glob;
    }
  }
}

TEST(BertStep, AStepByHandIsTheSameProgram) {
  for (const double dropout : {0.0, 0.1}) {
    for (const DType dtype : {DType::f32, DType::bf16}) {
      const BertBenchSetting setting = small(dropout);
      const CompileOptions compile{.compute_dtype = dtype, .remat = {}, .threads = 2};
      EXPECT_EQ(dump_stage(bert_bench_step(setting, compile).graph(), compile, "fused"),
                dump_stage(bert_step_by_hand(setting, compile).graph(), compile, "fused"))
          << dropout << " " << name(dtype);
    }
  }
}

TEST(BertStep, AStepByHandTrainsTheSameBits) {
  const BertBenchSetting setting = small(0.1);
  const CompileOptions compile{.remat = {}, .threads = 2};
  Step library = bert_bench_step(setting, compile);
  Step by_hand = bert_step_by_hand(setting, compile);
  for (Step* step : {&library, &by_hand}) {
    step->initialize(5);
    BertBenchBatch batch(setting, 2);
    for (int64_t i = 0; i < 3; ++i) {
      batch.feed(*step, i);
      step->run();
    }
  }
  for (const auto& [path, values] : library.parameters()) {
    EXPECT_EQ(by_hand.parameter(path).to_doubles(), values.to_doubles()) << path;
  }
}

TEST(BertBench, GrowthKeepsTheTokensAndDrawsBothCurves) {
  const auto settings = growth_settings({.batch = 4, .seq = 512, .remat = {}});
  ASSERT_EQ(settings.size(), 9u);
  EXPECT_EQ(settings[3].layers, 12);
  std::vector<BertBenchResult> results;
  for (const BertBenchSetting& s : settings) {
    EXPECT_EQ(s.batch * s.seq, 2048);
    BertBenchResult r{.setting = s, .times = {}, .peak_how = {}};
    r.times.step_seconds = 0.5 * static_cast<double>(s.layers);
    r.gflops = 100.0;
    results.push_back(r);
  }
  const std::string html = render_report(growth_report(results));
  EXPECT_NE(html.find("Step time against layers"), std::string::npos);
  EXPECT_NE(html.find("Step time against the sequence, tokens constant"), std::string::npos);
  EXPECT_NE(html.find("1 x 2048"), std::string::npos);
  EXPECT_NE(test::error_of([] { growth_settings({.batch = 3, .seq = 512, .remat = {}}); })
                .find("--growth needs a multiple of 2048 tokens a step, --batch 3 times --seq 512 "
                      "is 1536"),
            std::string::npos);
}

}  // namespace
}  // namespace espalier::train
