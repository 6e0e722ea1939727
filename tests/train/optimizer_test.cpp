// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/optimizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "espalier/backend/interp_executable.h"
#include "espalier/base/error.h"
#include "tests/support/errors.h"

namespace espalier::train {
namespace {

using test::error_of;
using ::testing::HasSubstr;
using Values = std::map<std::string, std::vector<double>>;

/// An optimizer over vectors whose gradients are given from outside.
class Harness {
 public:
  Harness(const Optimizer& optimizer, const Values& start) {
    ir::Builder builder;
    const Tensor step(builder, builder.input("step", {DType::i64, {}}, "state"));
    std::vector<Gradient> gradients;
    for (const auto& [path, values] : start) {
      const ir::TensorType type{DType::f32, {static_cast<int64_t>(values.size())}};
      gradients.push_back(
          {path,
           {builder, builder.input("param." + path, type, "parameter")},
           {builder, builder.input("grad." + path, {DType::f32, type.shape}, "state")}});
    }
    const OptimizerNodes nodes = apply(optimizer, gradients, step);
    for (size_t i = 0; i < gradients.size(); ++i) {
      builder.output("param." + gradients[i].path, nodes.parameters[i].value(),
                     gradients[i].parameter.value());
    }
    for (const StateUpdate& s : nodes.state) {
      names_.push_back(s.name);
      builder.output(s.name, s.after.value(), s.before.value());
    }
    builder.output("step", (step + 1.0).value(), step.value());
    builder.output("learning_rate", nodes.learning_rate.value());
    executable_ = make_interp_executable(builder.finish(), {}, false);
    for (const auto& [path, values] : start) put("param." + path, values);
  }
  void put(const std::string& name, const std::vector<double>& values) {
    HostTensor tensor = executable_->state(name);
    for (size_t i = 0; i < values.size(); ++i) tensor.set(static_cast<int64_t>(i), values[i]);
  }
  void step(const Values& gradients) {
    for (const auto& [path, values] : gradients) put("grad." + path, values);
    executable_->run();
  }
  std::vector<double> get(const std::string& name) { return executable_->state(name).to_doubles(); }
  double learning_rate() { return executable_->output("learning_rate").get(0); }
  const std::vector<std::string>& state_names() const { return names_; }

 private:
  std::unique_ptr<Executable> executable_;
  std::vector<std::string> names_;
};

const Values kStart{{"a", {1.0, -2.0, 0.5}}, {"b.bias", {3.0}}};
const std::vector<Values> kGradients{{{"a", {0.3, -0.1, 0.0}}, {"b.bias", {2.0}}},
                                     {{"a", {-0.2, 0.4, 1e-6}}, {"b.bias", {-1.0}}},
                                     {{"a", {0.05, 0.0, 0.7}}, {"b.bias", {0.5}}}};

/// Adam and AdamW as torch writes them, in double.
struct TorchAdamW {
  double lr, beta1, beta2, eps, decay;
  double m = 0.0, v = 0.0;
  int t = 0;
  double step(double p, double g) {
    ++t;
    p *= 1.0 - lr * decay;
    m = beta1 * m + (1.0 - beta1) * g;
    v = beta2 * v + (1.0 - beta2) * g * g;
    const double denominator = std::sqrt(v) / std::sqrt(1.0 - std::pow(beta2, t)) + eps;
    return p - lr / (1.0 - std::pow(beta1, t)) * m / denominator;
  }
};

TEST(Optimizer, AdamTakesTorchsSteps) {
  Harness harness(adam({.learning_rate = 1e-2}), kStart);
  std::vector<TorchAdamW> reference(3, {1e-2, 0.9, 0.999, 1e-8, 0.0});
  std::vector<double> want = kStart.at("a");
  for (const Values& gradients : kGradients) {
    harness.step(gradients);
    for (size_t i = 0; i < 3; ++i) want[i] = reference[i].step(want[i], gradients.at("a")[i]);
    const std::vector<double> got = harness.get("param.a");
    for (size_t i = 0; i < 3; ++i) EXPECT_NEAR(got[i], want[i], 1e-14);
  }
  EXPECT_NEAR(harness.get("adam.v.b.bias")[0], 0.001 * (4.0 * 0.999 * 0.999 + 1.0 * 0.999 + 0.25),
              1e-15);
}

TEST(Optimizer, AdamWDecaysWhatTheMaskLeaves) {
  const AdamWOptions options{.learning_rate = 0.1, .weight_decay = 0.2, .mask = {{"*.bias"}, {}}};
  Harness harness(chain(adamw(options)), kStart);
  std::vector<TorchAdamW> a(3, {0.1, 0.9, 0.999, 1e-8, 0.2});
  TorchAdamW bias{0.1, 0.9, 0.999, 1e-8, 0.0};
  std::vector<double> want = kStart.at("a");
  double want_bias = 3.0;
  for (const Values& gradients : kGradients) {
    harness.step(gradients);
    for (size_t i = 0; i < 3; ++i) want[i] = a[i].step(want[i], gradients.at("a")[i]);
    want_bias = bias.step(want_bias, gradients.at("b.bias")[0]);
  }
  for (size_t i = 0; i < 3; ++i) EXPECT_NEAR(harness.get("param.a")[i], want[i], 1e-14);
  EXPECT_NEAR(harness.get("param.b.bias")[0], want_bias, 1e-14);
}

TEST(Optimizer, DecayMayBeChosenByAFunction) {
  const DecayMask matrices{{}, [](std::string_view, const Shape& s) { return s[0] > 1; }};
  Harness harness(adamw({.learning_rate = 0.1, .weight_decay = 0.5, .mask = matrices}), kStart);
  harness.step({{"a", {0, 0, 0}}, {"b.bias", {0}}});
  EXPECT_NEAR(harness.get("param.a")[0], 1.0 - 0.1 * 0.5 * 1.0, 1e-15);
  EXPECT_EQ(harness.get("param.b.bias")[0], 3.0);
}

TEST(Optimizer, SgdKeepsMomentumAsTorchDoes) {
  for (bool nesterov : {false, true}) {
    Harness harness(sgd({.learning_rate = 0.1, .momentum = 0.9, .nesterov = nesterov}), kStart);
    double p = 3.0, trace = 0.0;
    for (const Values& gradients : kGradients) {
      harness.step(gradients);
      const double g = gradients.at("b.bias")[0];
      trace = 0.9 * trace + g;
      p -= 0.1 * (nesterov ? g + 0.9 * trace : trace);
      EXPECT_NEAR(harness.get("param.b.bias")[0], p, 1e-14);
    }
  }
  EXPECT_TRUE(Harness(sgd({.learning_rate = 0.1}), kStart).state_names().empty());
}

TEST(Optimizer, ClippingScalesAllGradientsByTheirCommonNorm) {
  const double norm = std::sqrt(0.3 * 0.3 + 0.1 * 0.1 + 4.0);
  for (double largest : {0.5, 100.0}) {
    Harness harness(chain(clip_by_global_norm(largest), sgd({.learning_rate = 1.0})), kStart);
    harness.step(kGradients[0]);
    const double factor = std::min(1.0, largest / (norm + 1e-6));
    EXPECT_NEAR(harness.get("param.a")[0], 1.0 - 0.3 * factor, 1e-14);
    EXPECT_NEAR(harness.get("param.b.bias")[0], 3.0 - 2.0 * factor, 1e-14);
  }
}

TEST(Optimizer, TheScheduleSeesUpdatesCountedFromZero) {
  Harness harness(sgd({.learning_rate = cosine_schedule({.peak = 1.0, .warmup = 2, .total = 6})}),
                  kStart);
  for (double want :
       {0.0, 0.5, 1.0, 0.5 + std::sqrt(0.5) / 2, 0.5, 0.5 - std::sqrt(0.5) / 2, 0.0, 0.0}) {
    harness.step(kGradients[0]);
    EXPECT_NEAR(harness.learning_rate(), want, 1e-14);
  }
}

TEST(Schedule, NodesAndNumbersAgree) {
  const std::vector<Schedule> schedules{
      3e-4, constant_schedule(1.0, 4),
      linear_schedule({.peak = 2.0, .warmup = 3, .total = 10, .end = 0.5}),
      linear_schedule({.peak = 2.0, .total = 10}),
      cosine_schedule({.peak = 5e-5, .warmup = 10, .total = 100})};
  for (const Schedule& schedule : schedules) {
    ir::Builder builder;
    const Tensor step(builder, builder.input("step", {DType::i64, {}}, "state"));
    builder.output("next", (step + 1.0).value(), step.value());
    builder.output("value", schedule.at(convert(step, DType::f32)).value());
    const auto executable = make_interp_executable(builder.finish(), {}, false);
    for (int64_t i = 0; i < 120; ++i) {
      executable->run();
      EXPECT_NEAR(executable->output("value").get(0), schedule.at(i), 1e-15) << i;
    }
  }
  EXPECT_EQ(linear_schedule({.peak = 2.0, .total = 10, .end = 0.5}).at(int64_t{50}), 0.5);
}

TEST(Schedule, WarmupsThatDoNotEndAreErrors) {
  EXPECT_THAT(error_of([] { cosine_schedule({.peak = 1.0, .warmup = 10, .total = 10}); }),
              HasSubstr("warmup = 10 must be less than total = 10 steps"));
}

TEST(Optimizer, WrongChainsAreErrors) {
  EXPECT_THAT(error_of([] { Harness(clip_by_global_norm(1.0), kStart); }),
              HasSubstr("the chain has no learning rate"));
  EXPECT_THAT(error_of([] { Harness(chain(adam(), adam()), kStart); }),
              HasSubstr("two transforms of the chain keep the state adam.m.a"));
  EXPECT_THAT(error_of([] {
                Harness(adamw({.mask = {{"b.bios"}, {}}}), kStart);
              }),
              HasSubstr("decay mask \"b.bios\" matched 0 of 2 parameters; nearest: b.bias"));
  EXPECT_THAT(error_of([] { clip_by_global_norm(0.0); }),
              HasSubstr("largest norm must be positive, got 0"));
  EXPECT_THAT(error_of([] { adam({.beta2 = 1.0}); }), HasSubstr("beta2 = 1 is outside [0, 1)"));
}

// torch.optim.AdamW's own numbers, where the folder is present. They were computed in f32: each
// step rounds the parameter twice and the update, of size lr, a few times.
TEST(Optimizer, AgreesWithTorchsRecordedSteps) {
  // Beside the sources, or beside the folder that holds a worktree of them.
  const std::filesystem::path sources(ESPALIER_SOURCE_DIR);
  std::filesystem::path path = sources / "../shared/data/optim/adamw_reference.json";
  if (!std::filesystem::exists(path)) {
    path = sources / "../../shared/data/optim/adamw_reference.json";
  }
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not there";
  const auto reference = nlohmann::json::parse(std::ifstream(path));
  for (const auto& [name, test_case] : reference.at("cases").items()) {
    const auto& h = test_case.at("hyperparams");
    const AdamWOptions options{.learning_rate = h.at("lr").get<double>(),
                               .beta1 = h.at("beta1"),
                               .beta2 = h.at("beta2"),
                               .epsilon = h.at("eps"),
                               .weight_decay = h.at("weight_decay")};
    Harness harness(adamw(options), {{"a", reference.at("init_a")}, {"b", reference.at("init_b")}});
    for (size_t s = 0; s < test_case.at("steps").size(); ++s) {
      harness.step({{"a", reference.at("grads_a")[s]}, {"b", reference.at("grads_b")[s]}});
      for (const char* p : {"a", "b"}) {
        const auto want = test_case.at("steps")[s]
                              .at(std::string("param_") + p)
                              .template get<std::vector<double>>();
        const std::vector<double> got = harness.get(std::string("param.") + p);
        for (size_t i = 0; i < want.size(); ++i) {
          const double bound = 0x1p-24 * static_cast<double>(s + 1) *
                               (2.0 * std::abs(want[i]) + 8.0 * options.learning_rate.peak);
          EXPECT_NEAR(got[i], want[i], bound) << name << " step " << s << " " << p << i;
        }
      }
    }
  }
}

}  // namespace
}  // namespace espalier::train
