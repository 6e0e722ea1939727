// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/step.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "espalier/base/error.h"
#include "espalier/models/byte_lm.h"
#include "tests/support/errors.h"

namespace espalier::train {
namespace {

using test::error_of;
using ::testing::HasSubstr;

const CompileOptions kInterp{.backend = "interp"};

constexpr models::ByteLmConfig kTiny{
    .width = 8, .heads = 2, .ffn = 12, .layers = 1, .seq_len = 6, .dropout = 0.2};

Loss byte_loss(const models::ByteLm& model, const Trace& trace) {
  constexpr auto kVariant = models::ByteLmVariant::library;
  const Tensor bytes = models::byte_lm_input(trace.builder, 2, 6);
  const Tensor logits = byte_lm_logits(model, kVariant, bytes, trace.context);
  return byte_lm_loss(kVariant, logits, bytes);
}

const std::vector<uint8_t> kBytes{1, 2, 3, 1, 2, 3, 7, 8, 9, 7, 8, 9};

Step byte_step(const StepOptions& options = {.compile = kInterp}, uint64_t seed = 5,
               models::ByteLm model = models::ByteLm(kTiny)) {
  Step step = make_train_step(std::move(model), byte_loss, adam({.learning_rate = 0.01}), options);
  step.compile();
  step.initialize(seed);
  step.set_batch("bytes", kBytes.data());
  return step;
}

std::vector<double> losses(Step& step, int count) {
  std::vector<double> result;
  for (int i = 0; i < count; ++i) {
    step.run();
    result.push_back(step.loss());
  }
  return result;
}

TEST(TrainStep, LowersTheLoss) {
  Step step = byte_step();
  const std::vector<double> curve = losses(step, 25);
  // Embeddings of deviation 1 against a small decoder: the first loss is near that of guessing.
  EXPECT_NEAR(curve.front(), std::log(256.0), 1.0);
  EXPECT_LT(curve.back(), 0.6 * curve.front());
  EXPECT_EQ(step.steps_done(), 25);
  EXPECT_NEAR(step.scalar("learning_rate"), 0.01, 1e-15);
}

TEST(TrainStep, EverythingFollowsFromTheSeed) {
  Step one = byte_step();
  Step two = byte_step();
  Step other = byte_step({.compile = kInterp}, 6);
  const std::vector<double> curve = losses(one, 3);
  EXPECT_EQ(curve, losses(two, 3));
  EXPECT_NE(curve, losses(other, 3));
}

TEST(TrainStep, StateHasTheNamesThatCheckpointsUse) {
  Step step = byte_step();
  std::set<std::string> names;
  for (const auto& [name, tensor] : step.other_state()) names.insert(name);
  const std::vector<std::string> paths = nn::param_paths(models::ByteLm(kTiny));
  EXPECT_EQ(names.size(), 2 * paths.size() + 2);
  for (const std::string& path : paths) {
    EXPECT_TRUE(names.contains("adam.m." + path)) << path;
    EXPECT_TRUE(names.contains("adam.v." + path)) << path;
  }
  EXPECT_TRUE(names.contains("step") && names.contains("seed"));
  EXPECT_EQ(step.parameters().size(), paths.size());
  // Every kept value but the seed is replaced by an output.
  std::set<std::string> replaced;
  for (const ir::Output& output : step.graph().outputs()) {
    if (output.alias < 0) continue;
    EXPECT_EQ(step.graph().node(output.alias).attrs.text(ir::Attr::name), output.name);
    replaced.insert(output.name);
  }
  EXPECT_EQ(replaced.size(), step.slots().size() - 1);
}

TEST(TrainStep, InitialValuesDependOnSeedAndPathOnly) {
  Step step = byte_step();
  models::ByteLm model(kTiny);
  nn::materialize(model, 5);
  nn::for_each_param(model, [&](std::string_view path, nn::Param& p) {
    EXPECT_EQ(step.parameter(path).to_doubles(), p.data.to_doubles()) << path;
  });
}

TEST(TrainStep, FrozenParametersHaveNoGradientAndNoState) {
  models::ByteLm model(kTiny);
  nn::param_at(model, "embedding.weight").trainable = false;
  Step step = byte_step({.compile = kInterp, .gradients = true}, 5, model);
  const std::vector<double> before = step.parameter("embedding.weight").to_doubles();
  losses(step, 2);
  EXPECT_EQ(step.parameter("embedding.weight").to_doubles(), before);
  EXPECT_FALSE(step.other_state().contains("adam.m.embedding.weight"));
  EXPECT_THAT(error_of([&] { step.executable().output("grad.embedding.weight"); }),
              HasSubstr("no output \"grad.embedding.weight\""));
  EXPECT_NO_THROW(step.executable().output("grad.decoder.weight"));
}

TEST(TrainStep, TheReportedNormIsThatOfAllGradients) {
  Step step = byte_step({.compile = kInterp, .grad_norm = true, .gradients = true});
  step.run();
  double sum = 0.0;
  for (const std::string& path : nn::param_paths(models::ByteLm(kTiny))) {
    for (double g : step.executable().output("grad." + path).to_doubles()) sum += g * g;
  }
  EXPECT_NEAR(step.scalar("grad_norm"), std::sqrt(sum), 1e-12);
}

TEST(TrainStep, HooksComeOutUnderTheirNames) {
  Step step = byte_step({.compile = kInterp, .hooks = {"resid_*.0", "embed"}});
  step.run();
  EXPECT_EQ(step.executable().output("hook.resid_mid.0").shape(), (Shape{2, 6, 8}));
  EXPECT_NO_THROW(step.executable().output("hook.embed"));
  EXPECT_THAT(error_of([] { byte_step({.compile = kInterp, .hooks = {"resid_mid.4"}}); }),
              HasSubstr("\"resid_mid.4\" matched none of 6 hooks; nearest: resid_mid.0"));
}

TEST(EvalStep, IsTheTrainingLossWithoutDropout) {
  models::ByteLmConfig config = kTiny;
  config.dropout = 0.0;
  Step train = byte_step({.compile = kInterp}, 5, models::ByteLm(config));
  Step dropped = byte_step();
  Step eval = make_eval_step(models::ByteLm(kTiny), byte_loss, {.compile = kInterp});
  eval.compile();
  eval.copy_parameters(train);
  eval.set_batch("bytes", kBytes.data());
  eval.run();
  train.run();
  dropped.run();
  EXPECT_EQ(eval.loss(), train.loss());
  EXPECT_NE(eval.loss(), dropped.loss());
  EXPECT_EQ(eval.slots().size(), train.parameters().size());
}

/// Two rows of weights times an input that a test chooses: the gradient is 2^-12 of the input, so
/// that it fits f16 even when it is scaled by 2^24.
Step linear_step(const StepOptions& options, const std::vector<float>& x) {
  const auto loss = [](const nn::Linear& model, const Trace& trace) -> Loss {
    const Tensor input = trace.batch("x", DType::f32, {1, 3});
    return {reduce_sum(model(input), {0, 1}) * 0x1p-12,
            {{"inputs", reduce_sum(input, {0, 1}), constant(trace.builder, 3.0)}}};
  };
  Step step = make_train_step(nn::Linear(3, 2), loss, adam({.learning_rate = 0.5}), options);
  step.compile();
  step.initialize(1);
  step.set_batch("x", x.data());
  return step;
}

TEST(TrainStep, MetricsAreSumsAndCounts) {
  const std::vector<float> x{1, 2, 4};
  Step step = linear_step({.compile = kInterp}, x);
  step.run();
  EXPECT_EQ(step.scalar("metric.inputs.sum"), 7.0);
  EXPECT_EQ(step.scalar("metric.inputs.count"), 3.0);
}

const StepOptions kScaled{.compile = {.backend = "interp", .compute_dtype = DType::f16},
                          .grad_norm = true};

TEST(LossScaling, DoesNotChangeAGoodStep) {
  const std::vector<float> x{1, 2, -4};
  Step plain = linear_step({.compile = kInterp, .grad_norm = true}, x);
  Step scaled = linear_step(kScaled, x);
  EXPECT_EQ(scaled.state("loss_scale").get(0), 32768.0);
  for (int i = 0; i < 3; ++i) {
    plain.run();
    scaled.run();
    EXPECT_EQ(scaled.parameter("weight").to_doubles(), plain.parameter("weight").to_doubles());
    EXPECT_EQ(scaled.scalar("grad_norm"), plain.scalar("grad_norm"));
  }
  EXPECT_EQ(scaled.state("good_steps").get(0), 3.0);
  EXPECT_EQ(scaled.state("updates").get(0), 3.0);
}

TEST(LossScaling, AStepThatOverflowsChangesNothingAndHalvesTheScale) {
  for (float bad : {3e38f, INFINITY, NAN}) {
    const std::vector<float> x{bad, bad, 1};
    Step step = linear_step(kScaled, x);
    const std::vector<double> weights = step.parameter("weight").to_doubles();
    step.run();
    EXPECT_EQ(step.parameter("weight").to_doubles(), weights);
    EXPECT_EQ(step.state("adam.v.weight").to_doubles(), std::vector<double>(6, 0.0));
    EXPECT_EQ(step.state("loss_scale").get(0), 16384.0);
    EXPECT_EQ(step.state("updates").get(0), 0.0);
    EXPECT_EQ(step.steps_done(), 1);
  }
}

TEST(LossScaling, DoublesAfterTwoThousandGoodSteps) {
  const std::vector<float> x{1, 2, -4};
  Step step = linear_step(kScaled, x);
  step.state("good_steps").set(0, 1999.0);
  step.run();
  EXPECT_EQ(step.state("loss_scale").get(0), 65536.0);
  EXPECT_EQ(step.state("good_steps").get(0), 0.0);
  step.state("good_steps").set(0, 1999.0);
  step.state("loss_scale").set(0, 16777216.0);
  step.run();
  EXPECT_EQ(step.state("loss_scale").get(0), 16777216.0);
}

struct Unused : nn::Module<Unused> {
  nn::Linear used{3, 1}, unused{3, 1};
  static constexpr auto fields = nn::fields(&Unused::used, "used", &Unused::unused, "unused");
};

TEST(TrainStep, ParametersTheLossDoesNotUseStayAsTheyAre) {
  const auto loss = [](const Unused& model, const Trace& trace) {
    return reduce_sum(model.used(trace.batch("x", DType::f32, {1, 3})), {0, 1});
  };
  Step step = make_train_step(Unused(), loss, adamw({.weight_decay = 0.1}), {.compile = kInterp});
  step.compile();
  step.initialize(1);
  const std::vector<float> x{1, 2, 3};
  step.set_batch("x", x.data());
  const std::vector<double> before = step.parameter("unused.weight").to_doubles();
  step.run();
  EXPECT_EQ(step.parameter("unused.weight").to_doubles(), before);
  EXPECT_FALSE(step.other_state().contains("adam.m.unused.weight"));
  EXPECT_TRUE(step.other_state().contains("adam.m.used.weight"));
}

TEST(TrainStep, TiedLeavesGetTheSumOfTheirGradients) {
  Unused tied;
  tied.unused.weight.tied_to = "used.weight";
  const auto loss = [](const Unused& model, const Trace& trace) {
    const Tensor x = trace.batch("x", DType::f32, {1, 3});
    return reduce_sum(model.used(x) + 2.0 * model.unused(x), {0, 1});
  };
  Step step = make_train_step(tied, loss, sgd({}), {.compile = kInterp, .gradients = true});
  step.compile();
  step.initialize(1);
  const std::vector<float> x{1, 2, 3};
  step.set_batch("x", x.data());
  step.run();
  EXPECT_EQ(step.executable().output("grad.used.weight").to_doubles(),
            (std::vector<double>{3, 6, 9}));
  EXPECT_EQ(step.parameters().size(), 3u);
}

TEST(TrainStep, WrongUsesAreErrors) {
  const auto vector_loss = [](const nn::Linear& model, const Trace& trace) {
    return model(trace.batch("x", DType::f32, {1, 3}));
  };
  EXPECT_THAT(error_of([&] { make_train_step(nn::Linear(3, 2), vector_loss, adam()); }),
              HasSubstr("the loss is a float scalar, got f32[1,2]"));
  nn::Linear frozen(3, 2);
  frozen.weight.trainable = frozen.bias->trainable = false;
  const auto loss = [](const nn::Linear& model, const Trace& trace) {
    return reduce_sum(model(trace.batch("x", DType::f32, {1, 3})), {0, 1});
  };
  EXPECT_THAT(error_of([&] { make_train_step(frozen, loss, adam()); }),
              HasSubstr("all 2 parameters are frozen, so there is nothing to train"));
  Step step = make_train_step(nn::Linear(3, 2), loss, adam(), {.compile = kInterp});
  EXPECT_THAT(error_of([&] { step.run(); }), HasSubstr("train_step is not compiled yet"));
  step.compile();
  EXPECT_THAT(error_of([&] { step.parameter("wieght"); }),
              HasSubstr("no parameter at wieght; nearest: weight"));
  EXPECT_THAT(error_of([&] { step.set_batch("y", nullptr); }), HasSubstr("nearest: batch.x"));
  EXPECT_THAT(error_of([&] {
                step.set_parameter("weight", HostTensor(DType::f32, {3, 2}));
              }),
              HasSubstr("f32[3,2] does not fit"));
  EXPECT_THAT(error_of([&] { step.run(); }), HasSubstr("input \"batch.x\" was not set"));
}

}  // namespace
}  // namespace espalier::train
