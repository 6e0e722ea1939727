// SPDX-License-Identifier: Apache-2.0
// The byte LM trained by both of its variants on the CPU.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "espalier/backend/executable.h"
#include "espalier/models/byte_lm.h"
#include "espalier/train/step.h"

namespace espalier::train {
namespace {

using models::ByteLmVariant;

// Odd sizes; two layers of equal structure.
constexpr models::ByteLmConfig kConfig{
    .width = 24, .heads = 3, .ffn = 40, .layers = 2, .seq_len = 19, .dropout = 0.1};
constexpr int64_t kBatch = 3;

Step byte_step(ByteLmVariant variant, const CompileOptions& compile) {
  return make_train_step(
      models::ByteLm(kConfig),
      [=](const models::ByteLm& model, const Trace& trace) {
        const Tensor bytes = models::byte_lm_input(trace.builder, kBatch, kConfig.seq_len);
        const Tensor logits = byte_lm_logits(model, variant, bytes, trace.context);
        return byte_lm_loss(variant, logits, bytes);
      },
      chain(clip_by_global_norm(1.0), adam({.learning_rate = 1e-3})),
      {.compile = compile, .grad_norm = true});
}

std::vector<uint8_t> batch_of(int step) {
  std::vector<uint8_t> bytes(static_cast<size_t>(kBatch * kConfig.seq_len));
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<uint8_t>("a tree trained along a plan; "[(i + 7 * step) % 29]);
  }
  return bytes;
}

struct Trained {
  std::vector<double> losses;
  std::map<std::string, std::vector<double>> parameters;
};

Trained trained(ByteLmVariant variant, const CompileOptions& compile, int steps = 5) {
  Step step = byte_step(variant, compile);
  step.compile();
  step.initialize(3);
  Trained run;
  for (int s = 0; s < steps; ++s) {
    const std::vector<uint8_t> bytes = batch_of(s);
    step.set_batch("bytes", bytes.data());
    step.run();
    run.losses.push_back(step.loss());
  }
  for (const auto& [path, values] : step.parameters()) {
    run.parameters.emplace(path, values.to_doubles());
  }
  return run;
}

TEST(ByteLmTraining, BothVariantsCompileToTheSameProgram) {
  for (DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    for (bool flash : {true, false}) {
      const CompileOptions options{.compute_dtype = dtype, .flash = flash};
      const ir::Graph library = byte_step(ByteLmVariant::library, options).graph();
      const ir::Graph handcraft = byte_step(ByteLmVariant::handcraft, options).graph();
      EXPECT_EQ(dump_stage(library, options, "fused"), dump_stage(handcraft, options, "fused"))
          << name(dtype) << " flash " << flash;
    }
  }
}

TEST(ByteLmTraining, BothVariantsGiveTheSameBits) {
  for (bool fuse : {true, false}) {
    const CompileOptions options{.fuse = fuse, .threads = 2};
    const Trained library = trained(ByteLmVariant::library, options);
    const Trained handcraft = trained(ByteLmVariant::handcraft, options);
    EXPECT_EQ(library.losses, handcraft.losses);
    EXPECT_EQ(library.parameters, handcraft.parameters);
  }
}

TEST(ByteLmTraining, LossesFollowTheInterpreterWithDropout) {
  // The masks are equal bit for bit, so that only roundings differ: each loss is a mean of 57 terms
  // of size log 256, computed in f32 over sums of at most 256 products.
  const Trained exact = trained(ByteLmVariant::library, {.backend = "interp"});
  for (bool fuse : {true, false}) {
    for (bool flash : {true, false}) {
      const Trained got = trained(ByteLmVariant::library, {.fuse = fuse, .flash = flash});
      for (size_t s = 0; s < exact.losses.size(); ++s) {
        EXPECT_NEAR(got.losses[s], exact.losses[s], 4.0 * std::sqrt(128.0) * 0x1p-24 * 6.0)
            << "fuse " << fuse << " flash " << flash << " step " << s;
      }
    }
  }
}

TEST(ByteLmTraining, NarrowTypesTrainAlike) {
  const Trained wide = trained(ByteLmVariant::library, {}, 30);
  EXPECT_LT(wide.losses.back(), wide.losses.front() - 0.5);
  for (DType dtype : {DType::bf16, DType::f16}) {
    const Trained narrow = trained(ByteLmVariant::library, {.compute_dtype = dtype}, 30);
    for (size_t s = 0; s < wide.losses.size(); ++s) {
      EXPECT_NEAR(narrow.losses[s], wide.losses[s], 8.0 * unit_roundoff(dtype) * wide.losses[s])
          << name(dtype) << " step " << s;
    }
  }
}

}  // namespace
}  // namespace espalier::train
