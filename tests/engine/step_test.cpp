// SPDX-License-Identifier: Apache-2.0
// What the whole engine promises about one training step.
#include <gtest/gtest.h>

#include <cmath>

#include "espalier/passes/pass.h"
#include "tests/engine/byte_lm_step.h"

namespace espalier {
namespace {

using models::ByteLmVariant;
using testing::make_step;
using testing::run_steps;
using testing::same_parameters;
using testing::StepCase;

std::string fused(const StepCase& c) {
  return dump_stage(make_step(c).graph(), c.options.compile, "fused");
}

TEST(Step, HandcraftAndLibraryFuseToTheSameProgram) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const bool flash : {true, false}) {
      StepCase library, handcraft;
      library.options.compile.compute_dtype = handcraft.options.compile.compute_dtype = dtype;
      library.options.compile.flash = handcraft.options.compile.flash = flash;
      handcraft.variant = ByteLmVariant::handcraft;
      EXPECT_EQ(fused(library), fused(handcraft)) << name(dtype) << " flash " << flash;
    }
  }
}

TEST(Step, HandcraftAndLibraryTrainTheSameBits) {
  StepCase library, handcraft;
  handcraft.variant = ByteLmVariant::handcraft;
  EXPECT_TRUE(same_parameters(run_steps(library, 4), run_steps(handcraft, 4)));
}

TEST(Step, TwoRunsAreBitwiseEqualAndThreadsDoNotMatter) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    StepCase one, two;
    one.options.compile.compute_dtype = two.options.compile.compute_dtype = dtype;
    one.options.compile.threads = 1;
    const auto first = run_steps(two, 4);
    EXPECT_TRUE(same_parameters(first, run_steps(two, 4))) << name(dtype);
    EXPECT_TRUE(same_parameters(first, run_steps(one, 4))) << name(dtype) << " on one thread";
  }
}

TEST(Step, LossFallsInEveryDtypeAndMode) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    for (const bool fuse : {true, false}) {
      StepCase c;
      c.options.compile.compute_dtype = dtype;
      c.options.compile.fuse = fuse;
      const auto run = run_steps(c, 30);
      EXPECT_LT(run.losses.back(), run.losses.front() - 1.0) << name(dtype) << " fuse " << fuse;
    }
  }
}

/// Dropout is a function of seed, step and position: every way to compute the step draws the same
/// masks, so the losses agree to rounding. One other mask would change them in the second digit.
TEST(Step, DropoutDoesNotDependOnFusionFlashPrecisionOrRemat) {
  const auto reference = run_steps(StepCase{}, 3);
  const auto expect_near = [&](const StepCase& c, double tolerance, const char* what) {
    const auto run = run_steps(c, 3);
    for (size_t s = 0; s < run.losses.size(); ++s) {
      EXPECT_NEAR(run.losses[s], reference.losses[s], tolerance) << what << " step " << s;
    }
  };
  StepCase c;
  c.options.compile.fuse = false;
  expect_near(c, 1e-4, "unfused");
  c = {};
  c.options.compile.flash = false;
  expect_near(c, 1e-4, "no flash");
  c = {};
  c.options.compile.compute_dtype = DType::bf16;
  expect_near(c, 2e-2, "bf16");
  c = {};
  c.options.compile.remat = {"layers.*"};
  expect_near(c, 1e-4, "remat");
}

TEST(Step, RematGivesTheSameBitsInLessMemory) {
  StepCase kept, again;
  kept.config.layers = again.config.layers = 6;
  again.options.compile.remat = {"layers.*.mlp"};
  const auto a = run_steps(kept, 3);
  const auto b = run_steps(again, 3);
  EXPECT_TRUE(same_parameters(a, b));
  EXPECT_LT(b.stats.arena_bytes, a.stats.arena_bytes);
}

TEST(Step, ArenaIsAtMostATenthAboveWhatIsLive) {
  for (const bool fuse : {true, false}) {
    for (const bool flash : {true, false}) {
      StepCase c;
      c.config.layers = 4;
      c.options.compile.fuse = fuse;
      c.options.compile.flash = flash;
      train::Step step = make_step(c);
      step.compile();
      const CompileStats& stats = step.executable().stats();
      EXPECT_LE(static_cast<double>(stats.arena_bytes),
                1.1 * static_cast<double>(stats.peak_live_bytes))
          << "fuse " << fuse << " flash " << flash;
    }
  }
}

TEST(Step, EqualLayersCompileOnce) {
  StepCase two, six;
  six.config.layers = 6;
  EXPECT_EQ(run_steps(two, 1).stats.distinct_loops, run_steps(six, 1).stats.distinct_loops);
}

TEST(Step, LossesStayTheSameWithAnyPassSwitchedOff) {
  const auto reference = run_steps(StepCase{}, 2);
  for (const passes::Pass& pass : passes::step_passes()) {
    if (pass.required) continue;
    StepCase c;
    c.options.compile.disabled_passes = {std::string(pass.name)};
    const auto run = run_steps(c, 2);
    EXPECT_NEAR(run.losses[1], reference.losses[1], 1e-4) << "without " << pass.name;
  }
}

TEST(Step, NothingIsReadPastABatchThatWasNotSet) {
  train::Step step = make_step(StepCase{});
  step.compile();
  step.initialize(1);
  try {
    step.run();
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("input batch.bytes has not been set"),
              std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace espalier
