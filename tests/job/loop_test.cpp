// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/loop.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "espalier/base/error.h"
#include "espalier/nn/linear.h"
#include "espalier/train/benchmark_loop.h"

namespace espalier::train {
namespace {

/// loss = mean of (w x)^2, or of log(w x) where that makes a NaN.
struct Line : nn::Module<Line> {
  nn::Param w{Shape{4}, nn::Init::ones()};
  static constexpr auto fields = nn::fields(&Line::w, "w");
};

class TrainLoop : public ::testing::Test {
 protected:
  void make(bool with_log, double learning_rate = 0.1) {
    const auto loss = [with_log](const Line& line, const Trace& trace) -> Loss {
      const Tensor x = trace.batch("x", DType::f32, {4});
      ir::Builder::Scope scope(trace.builder, "body");
      const Tensor y = line.w.value() * x;
      return mean(with_log ? log(y) : y * y, {0});
    };
    step_.emplace(make_train_step(Line{}, loss, sgd({.learning_rate = learning_rate}),
                                  {.compile = {.backend = "interp"}}));
    step_->compile();
    step_->initialize(1);
  }
  LoopCallbacks callbacks() {
    LoopCallbacks c;
    c.set_batch = [this](int64_t done) {
      batches_.push_back(done);
      x_.assign(4, done == bad_step_ ? -1.0f : 1.0f);
      step_->set_batch("x", x_.data());
      return LoopBatch{&*step_, {{"batch.x", x_.data()}}};
    };
    c.on_step = [this](const StepRecord& r) { records_.push_back(r); };
    c.on_log = [this](const StepRecord& r) { logged_.push_back(r.step); };
    c.save = [this](int64_t done) { saved_.push_back(done); };
    c.evaluate = [this](int64_t done) { evaluated_.push_back(done); };
    return c;
  }
  std::optional<Step> step_;
  std::vector<float> x_;
  int64_t bad_step_ = -1;
  std::vector<StepRecord> records_;
  std::vector<int64_t> batches_, logged_, saved_, evaluated_;
};

TEST_F(TrainLoop, CallsBackWhenItShould) {
  make(false);
  const LoopResult result = train_loop(
      *step_, {.steps = 10, .log_every = 4, .eval_every = 4, .save_every = 3}, callbacks());
  EXPECT_EQ(result.steps_done, 10);
  EXPECT_EQ(result.signal, 0);
  EXPECT_EQ(batches_, (std::vector<int64_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
  EXPECT_EQ(logged_, (std::vector<int64_t>{4, 8, 10}));
  EXPECT_EQ(evaluated_, (std::vector<int64_t>{4, 8, 10}));
  EXPECT_EQ(saved_, (std::vector<int64_t>{3, 6, 9, 10}));
  ASSERT_EQ(records_.size(), 10u);
  EXPECT_DOUBLE_EQ(records_[0].loss, 1.0);
  EXPECT_LT(records_[9].loss, records_[0].loss);
  EXPECT_NEAR(records_[3].learning_rate, 0.1, 1e-6);
  EXPECT_EQ(result.loss, records_[9].loss);
  EXPECT_FALSE(result.profile.empty() && !result.events.empty());
}

TEST_F(TrainLoop, TheBenchmarkLoopTimesStepsAndBatches) {
  make(false);
  const auto feed = [this](Step& step, int64_t i) {
    batches_.push_back(i);
    x_.assign(4, 1.0f);
    step.set_batch("x", x_.data());
  };
  const BenchmarkResult r =
      benchmark_loop(*step_, feed, {.steps = 5, .warmup = 2, .flops = 3e9, .profile = true});
  EXPECT_EQ(batches_, (std::vector<int64_t>{0, 1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(step_->steps_done(), 7);
  ASSERT_EQ(r.seconds.size(), 5u);
  double sum = 0.0, squares = 0.0;
  for (double s : r.seconds) sum += s;
  for (double s : r.seconds) squares += (s - sum / 5) * (s - sum / 5);
  EXPECT_GT(r.median, 0.0);
  EXPECT_EQ(r.median, median(r.seconds));
  EXPECT_NEAR(r.mean, sum / 5, 1e-15);
  EXPECT_NEAR(r.deviation, std::sqrt(squares / 5), 1e-12);
  EXPECT_GT(r.batch_seconds, 0.0);
  EXPECT_LT(r.steps_per_second, 5.0 / sum) << "batches count too";
  EXPECT_NEAR(r.gflops, 3.0 / r.median, 1e-6 / r.median);
  EXPECT_EQ(r.loss_first, 1.0);
  EXPECT_LT(r.loss_last, r.loss_first);
  EXPECT_EQ(median({3, 1, 2}), 2.0);
  EXPECT_EQ(median({4, 1, 2, 3}), 2.5);
  try {
    benchmark_loop(*step_, feed, {.steps = 0});
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("--steps 0 must be positive"), std::string::npos);
  }
}

TEST_F(TrainLoop, ContinuesFromTheStateOfTheStep) {
  make(false);
  train_loop(*step_, {.steps = 4}, callbacks());
  batches_.clear();
  train_loop(*step_, {.steps = 6}, callbacks());
  EXPECT_EQ(batches_, (std::vector<int64_t>{4, 5}));
  batches_.clear();
  saved_.clear();
  train_loop(*step_, {.steps = 6}, callbacks());
  EXPECT_TRUE(batches_.empty());
  EXPECT_TRUE(saved_.empty());
}

TEST_F(TrainLoop, ASignalSavesAndEnds) {
  make(false);
  LoopCallbacks c = callbacks();
  c.stop_signal = [this] { return batches_.size() == 3 ? 15 : 0; };
  const LoopResult result = train_loop(*step_, {.steps = 10, .log_every = 100}, c);
  EXPECT_EQ(result.signal, 15);
  EXPECT_EQ(result.steps_done, 3);
  EXPECT_EQ(saved_, (std::vector<int64_t>{3}));
  EXPECT_EQ(records_.size(), 3u) << "the last record is handed over";
}

TEST_F(TrainLoop, NaNStopsWithTheStep) {
  make(true);
  bad_step_ = 2;
  try {
    train_loop(*step_, {.steps = 10}, callbacks());
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::check);
    const std::string text = error.what();
    EXPECT_NE(text.find("nan at step 3"), std::string::npos) << text;
    EXPECT_NE(text.find("--check-nan"), std::string::npos) << text;
  }
  EXPECT_TRUE(saved_.empty());
}

TEST_F(TrainLoop, CheckNanNamesTheOp) {
  make(true);
  bad_step_ = 2;
  try {
    train_loop(*step_, {.steps = 10, .check_nan = true}, callbacks());
    FAIL() << "no error";
  } catch (const Error& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("the first op that made a NaN is log f32[4] at body"), std::string::npos)
        << text;
  }
}

}  // namespace
}  // namespace espalier::train
