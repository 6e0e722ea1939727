// SPDX-License-Identifier: Apache-2.0
// Accumulation: a batch cut into parts trains as the whole batch does.
#include <gtest/gtest.h>

#include <cmath>

#include "espalier/train/find_nan.h"
#include "tests/engine/byte_lm_step.h"
#include "tests/support/bert_step.h"
#include "tests/support/compare.h"
#include "tests/support/errors.h"

namespace espalier {
namespace {

using testing::BertCase;
using testing::BertRows;
using testing::BertRun;
using testing::close;
using testing::run_bert;

/// Everything of two runs, to 1e-12 of its size.
void expect_same(const BertRun& got, const BertRun& want, const std::string& what) {
  EXPECT_TRUE(close(got.losses, want.losses)) << what;
  EXPECT_TRUE(close(got.norms, want.norms)) << what;
  EXPECT_EQ(got.labels, want.labels) << what;
  for (const auto& [path, values] : want.gradients) {
    EXPECT_TRUE(close(got.gradients.at(path), values)) << what << " gradient of " << path;
  }
  for (const auto& [path, values] : want.parameters) {
    EXPECT_TRUE(close(got.parameters.at(path), values)) << what << " " << path;
  }
}

TEST(Accumulate, TheCutOfABatchChangesNothing) {
  // Dropout is on, parts have different numbers of labels.
  const BertRows rows(8);
  for (const bool flash : {true, false}) {
    BertCase c;
    c.options.compile.flash = flash;
    const BertRun whole = run_bert(c, rows.batch(1));
    EXPECT_EQ(whole.labels, static_cast<double>(rows.label_count()));
    for (const int64_t parts : {2, 4, 8}) {
      expect_same(run_bert(c, rows.batch(parts)), whole,
                  fmt::format("{} parts, flash {}", parts, flash));
    }
  }
}

TEST(Accumulate, DropoutIsThatOfTheWholeBatch) {
  // The masks matter: another seed gives another loss by far more than rounding.
  const BertRows rows(8);
  const BertRun one = run_bert({}, rows.batch(4), 1, 7);
  const BertRun other = run_bert({}, rows.batch(4), 1, 7);
  EXPECT_EQ(one.losses, other.losses);
  BertCase without;
  without.config.hidden_dropout_prob = without.config.attention_probs_dropout_prob = 0.0;
  EXPECT_GT(std::abs(run_bert(without, rows.batch(4), 1, 7).losses[0] - one.losses[0]), 1e-4);
}

TEST(Accumulate, PartsWithoutLabelsCountNothing) {
  BertRows rows(4);
  std::fill(rows.labels.begin(), rows.labels.begin() + 2 * rows.seq_len, train::kNoLabel);
  const BertRun whole = run_bert({}, rows.batch(1));
  expect_same(run_bert({}, rows.batch(4)), whole, "two empty parts");
  std::fill(rows.labels.begin(), rows.labels.end(), train::kNoLabel);
  const BertRun none = run_bert({}, rows.batch(2, 4));
  EXPECT_EQ(none.losses[0], 0.0);
  EXPECT_EQ(none.norms[0], 0.0);
}

TEST(Accumulate, WithAdamAndClippingTheUpdateIsTheSame) {
  // Keys' biases have a gradient of zero, which Adam turns into noise: they are left out.
  const BertRows rows(8);
  BertCase c;
  c.freeze = "*.key.bias";
  c.optimizer = train::chain(train::clip_by_global_norm(0.1),
                             train::adamw({.learning_rate = 1e-2, .weight_decay = 0.1}));
  const BertRun whole = run_bert(c, rows.batch(1), 3);
  for (const int64_t parts : {2, 4}) {
    const BertRun cut = run_bert(c, rows.batch(parts), 3);
    EXPECT_TRUE(close(cut.losses, whole.losses, 1e-9));
    for (const auto& [path, values] : whole.parameters) {
      EXPECT_TRUE(close(cut.parameters.at(path), values, 1e-9, 1e-9)) << path;
    }
  }
}

/// The loss of a step on the CPU, whole and cut, against the interpreter's.
TEST(Accumulate, TheCpuDrawsTheSameMasks) {
  const BertRows rows(8);
  BertCase c;
  c.config.num_hidden_layers = 1;
  const double want = run_bert(c, rows.batch(1), 1).losses[0];
  c.options.gradients = c.options.grad_norm = false;
  for (const CompileOptions& compile :
       std::vector<CompileOptions>{{.compute_dtype = DType::f32},
                                   {.compute_dtype = DType::f32, .flash = false},
                                   {.compute_dtype = DType::f32, .fuse = false},
                                   {.compute_dtype = DType::bf16},
                                   {.compute_dtype = DType::f16, .flash = false}}) {
    c.options.compile = compile;
    c.options.compile.threads = 2;
    for (const int64_t parts : {1, 4}) {
      const double loss = run_bert(c, rows.batch(parts), 1).losses[0];
      EXPECT_NEAR(loss, want, compile.compute_dtype == DType::f32 ? 1e-5 : 1e-2)
          << name(compile.compute_dtype) << " fuse " << compile.fuse << " flash " << compile.flash
          << " parts " << parts;
    }
  }
}

TEST(Accumulate, NarrowTypesTrainAlike) {
  const BertRows rows(8);
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    BertCase c;
    c.config.num_hidden_layers = 1;
    c.options.compile = {.compute_dtype = dtype, .threads = 2};
    c.options.gradients = c.options.grad_norm = false;
    c.optimizer = train::adam({.learning_rate = 1e-2});
    const BertRun run = run_bert(c, rows.batch(4), 30);
    EXPECT_LT(run.losses.back(), run.losses.front() - 0.5) << name(dtype);
  }
}

TEST(Accumulate, TheByteLmTrainsTheSame) {
  testing::StepCase whole;
  whole.options.compile.backend = "interp";
  whole.config = {.width = 16, .heads = 2, .ffn = 32, .layers = 2, .seq_len = 16};
  const std::vector<uint8_t> bytes = testing::sample_bytes(4 * 16);
  const auto train = [&](int64_t parts) {
    testing::StepCase c = whole;
    c.batch = 4 / parts;
    c.options.accumulate = parts;
    c.options.grad_norm = true;
    c.optimizer = train::sgd({.learning_rate = 0.1});
    train::Step step = testing::make_step(c);
    step.initialize(3);
    step.set_batch("bytes", bytes.data());
    std::vector<double> values;
    for (int s = 0; s < 3; ++s) {
      step.run();
      values.push_back(step.loss());
      values.push_back(step.scalar("grad_norm"));
    }
    return values;
  };
  const std::vector<double> want = train(1);
  EXPECT_TRUE(close(train(2), want));
  EXPECT_TRUE(close(train(4), want));
}

TEST(Accumulate, CheckpointsHoldNoTotals) {
  const BertRows rows(4);
  train::Step cut = testing::bert_step({}, rows.batch(2));
  train::Step whole = testing::bert_step({}, rows.batch(1));
  cut.initialize(1);
  whole.initialize(1);
  std::vector<std::string> names, names_of_whole;
  for (const auto& [name, value] : cut.other_state()) names.push_back(name);
  for (const auto& [name, value] : whole.other_state()) names_of_whole.push_back(name);
  EXPECT_EQ(names, names_of_whole);
}

struct Root : nn::Module<Root> {
  nn::Param w{Shape{2}, nn::Init::ones()};
  static constexpr auto fields = nn::fields(&Root::w, "w");
};

TEST(Accumulate, TheOpThatMadeANanIsFoundInAnyPart) {
  const auto loss = [](const Root& model, const train::Trace& trace) -> train::Loss {
    const Tensor x = trace.batch("x", DType::f32, {2});
    return mean(log(model.w.value() * x), {0});
  };
  train::Step step = train::make_train_step(Root(), loss, train::sgd({.learning_rate = 0.1}),
                                            {.compile = {.backend = "interp"}, .accumulate = 2});
  step.initialize(1);
  const std::vector<float> x{1.0f, 2.0f, 3.0f, -1.0f};
  const auto before = train::snapshot(step);
  const std::string op = train::first_nan(step, before, {{"batch.x", x.data()}});
  EXPECT_NE(op.find("log f32[2]"), std::string::npos) << op;
}

TEST(AccumulateErrors, NoPartsAndHooks) {
  const BertRows rows(4);
  BertCase c;
  c.options.hooks = {"embed"};
  EXPECT_NE(test::error_of([&] {
              testing::bert_step(c, rows.batch(2));
            }).find("use accumulate = 1 for hooks"),
            std::string::npos);
  train::BertBatch none = rows.batch(1);
  none.parts = 0;
  EXPECT_NE(test::error_of([&] { testing::bert_step({}, none); }).find("cut into 0 parts"),
            std::string::npos);
}

}  // namespace
}  // namespace espalier
