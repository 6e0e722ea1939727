// SPDX-License-Identifier: Apache-2.0
// Batches of several shapes over one state.
#include <gtest/gtest.h>

#include "espalier/train/shaped_steps.h"
#include "tests/support/bert_step.h"
#include "tests/support/compare.h"

namespace espalier {
namespace {

using testing::BertCase;
using testing::BertRows;
using train::BertBatch;
using train::ShapedSteps;
using train::Step;

class Shapes : public ::testing::TestWithParam<std::string> {
 protected:
  ShapedSteps steps(int64_t parts = 1) {
    case_.options.compile.backend = GetParam();
    case_.options.compile.threads = 2;
    case_.options.gradients = case_.options.grad_norm = false;
    return ShapedSteps(
        [this, parts](const ShapedSteps::BatchShape& s) {
          BertBatch batch;
          batch.parts = parts;
          batch.shape = {s[0], s[1], s[2]};
          return testing::bert_step(case_, batch);
        },
        [this](const ShapedSteps::BatchShape& s) { announced_.push_back(s); });
  }
  static Step& of(ShapedSteps& steps, const BertBatch& batch) {
    Step& step = steps.at({batch.shape.rows, batch.shape.seq_len, batch.shape.label_room});
    train::set_bert_batch(step, batch);
    return step;
  }

  BertCase case_;
  std::vector<ShapedSteps::BatchShape> announced_;
};

TEST_P(Shapes, MoreLabelsCompileALargerBucketOverTheSameState) {
  const BertRows few(4, 1), many(4, 5);
  const BertBatch small = few.batch(1, few.label_count());
  const BertBatch large = many.batch(1, 48);
  ShapedSteps shaped = steps();
  Step& first = of(shaped, small);
  first.initialize(7);
  EXPECT_EQ(shaped.compilations(), 1);
  EXPECT_TRUE(announced_.empty()) << "the first is no surprise";
  std::vector<double> losses;
  for (const BertBatch* batch : {&small, &large, &large, &small, &large}) {
    Step& step = of(shaped, *batch);
    step.run();
    losses.push_back(step.loss());
    EXPECT_EQ(step.scalar("metric.labels.count"), static_cast<double>(batch->labels));
  }
  EXPECT_EQ(shaped.compilations(), 2);
  EXPECT_EQ(announced_, (std::vector<ShapedSteps::BatchShape>{{4, 12, 48}}));
  Step& second = of(shaped, large);
  EXPECT_NE(&first, &second);
  EXPECT_EQ(second.steps_done(), 5);
  for (const auto& [path, values] : first.parameters()) {
    EXPECT_EQ(static_cast<const void*>(second.parameter(path).data()),
              static_cast<const void*>(values.data()))
        << path << " is in memory twice";
  }

  // The same batches in one bucket that holds them all.
  const BertBatch wide = few.batch(1, 48);
  Step step = testing::bert_step(case_, wide);
  step.initialize(7);
  std::vector<double> want;
  for (const BertBatch* batch : {&wide, &large, &large, &wide, &large}) {
    train::set_bert_batch(step, *batch);
    step.run();
    want.push_back(step.loss());
  }
  const double tolerance = GetParam() == "interp" ? 1e-12 : 1e-5;
  EXPECT_TRUE(testing::close(losses, want, tolerance, tolerance));
}

TEST_P(Shapes, OtherBatchesCompileOnceEach) {
  const BertRows two(2), four(4);
  ShapedSteps shaped = steps();
  of(shaped, two.batch(1, 24)).initialize(3);
  for (int i = 0; i < 3; ++i) {
    of(shaped, two.batch(1, 24)).run();
    of(shaped, four.batch(1, 48)).run();
  }
  EXPECT_EQ(shaped.compilations(), 2);
  EXPECT_EQ(of(shaped, two.batch(1, 24)).steps_done(), 6);
}

TEST_P(Shapes, CutBatchesShareTheirStateToo) {
  const BertRows rows(4);
  ShapedSteps shaped = steps(2);
  const BertBatch small = rows.batch(2);
  Step& first = of(shaped, small);
  first.initialize(3);
  first.run();
  const BertBatch large = rows.batch(2, small.shape.label_room + 8);
  Step& second = of(shaped, large);
  second.run();
  EXPECT_EQ(first.steps_done(), 2);
  EXPECT_EQ(second.executable().stats().state_bytes, 0) << "state of its own";
}

INSTANTIATE_TEST_SUITE_P(Backends, Shapes, ::testing::Values("interp", "cpu"),
                         [](const auto& test) { return test.param; });

TEST(SharedState, OtherTypesAreRefused) {
  const BertRows rows(2);
  BertCase other;
  other.config.intermediate_size = 32;
  Step step = testing::bert_step({}, rows.batch(1));
  step.compile();
  Step wrong = testing::bert_step(other, rows.batch(1));
  try {
    wrong.compile_over(step);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("the shared state param.bert.encoder.layer.0"),
              std::string::npos)
        << error.what();
  }
}

TEST(Evaluator, ReadsTheParametersOfATrainingStep) {
  // Its step packs no weights of its own, so it sees each update.
  const BertRows rows(4);
  BertCase c;
  c.options.compile = {.threads = 2};
  c.options.gradients = c.options.grad_norm = false;
  const BertBatch batch = rows.batch(1);
  Step step = testing::bert_step(c, batch);
  step.initialize(7);
  train::set_bert_batch(step, batch);
  Step eval = train::bert_eval_step(c.config, batch.shape, c.options.compile);
  eval.compile_over(step);
  train::set_bert_batch(eval, batch);
  std::vector<double> losses;
  for (int i = 0; i < 3; ++i) {
    eval.run();
    losses.push_back(eval.scalar("loss_sum") / eval.scalar("count"));
    for (int k = 0; k < 10; ++k) step.run();
  }
  EXPECT_LT(losses[1], losses[0] - 0.01);
  EXPECT_LT(losses[2], losses[1] - 0.01);
  Step alone = train::bert_eval_step(c.config, batch.shape, c.options.compile);
  alone.compile();
  alone.copy_parameters(step);
  train::set_bert_batch(alone, batch);
  alone.run();
  eval.run();
  EXPECT_EQ(alone.scalar("loss_sum"), eval.scalar("loss_sum"));
}

}  // namespace
}  // namespace espalier
