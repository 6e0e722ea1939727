// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/generate.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>

#include "espalier/base/error.h"

namespace espalier::train {
namespace {

const std::array<float, 5> kLogits{0.0f, 2.0f, 1.0f, -1.0f, 2.0f};

TEST(Sample, ZeroTemperatureTakesTheFirstLargest) { EXPECT_EQ(sample(kLogits, 0.0, 0, 0.99), 1); }

TEST(Sample, FollowsTheDistribution) {
  // Probabilities of softmax(logits / T), in order of rank: 1, 4, 2, 0, 3.
  const double t = 0.5;
  double total = 0.0;
  for (const float logit : kLogits) total += std::exp(logit / t);
  const double p1 = std::exp(2.0 / t) / total;
  EXPECT_EQ(sample(kLogits, t, 0, p1 * 0.99), 1);
  EXPECT_EQ(sample(kLogits, t, 0, p1 * 1.01), 4);
  EXPECT_EQ(sample(kLogits, t, 0, 2 * p1 * 1.001), 2);
  EXPECT_EQ(sample(kLogits, t, 0, 0.9999999), 3);
}

TEST(Sample, TopKCutsTheTail) {
  for (double u = 0.0; u < 1.0; u += 0.01) {
    const int64_t drawn = sample(kLogits, 1.0, 2, u);
    EXPECT_TRUE(drawn == 1 || drawn == 4) << drawn;
  }
  EXPECT_EQ(sample(kLogits, 1.0, 1, 0.999), 1);
}

TEST(Sample, NaNIsAnError) {
  const std::array<float, 2> logits{1.0f, std::numeric_limits<float>::quiet_NaN()};
  EXPECT_THROW(sample(logits, 1.0, 0, 0.5), Error);
}

class Generate : public ::testing::Test {
 protected:
  static models::ByteLmConfig config() {
    return {.width = 8, .heads = 2, .ffn = 16, .layers = 1, .seq_len = 6};
  }
  Generate()
      : step_(
            byte_lm_logits_step(config(), models::ByteLmVariant::library, {.backend = "interp"})) {
    step_.compile();
    step_.initialize(3);
  }
  Step step_;
};

TEST_F(Generate, TheSameSeedGivesTheSameText) {
  const GenerateOptions options{.length = 12, .temperature = 1.0, .seed = 5};
  const std::string text = generate(step_, 6, "ab", options);
  EXPECT_EQ(text.size(), 14u);
  EXPECT_EQ(text.substr(0, 2), "ab");
  EXPECT_EQ(text, generate(step_, 6, "ab", options));
  EXPECT_NE(text, generate(step_, 6, "ab", {.length = 12, .temperature = 1.0, .seed = 6}));
}

TEST_F(Generate, SeesTheEndOfALongPrompt) {
  // Six positions: the last five bytes decide.
  const GenerateOptions options{.length = 8, .temperature = 0.0};
  const std::string a = generate(step_, 6, "xxxxhello", options);
  const std::string b = generate(step_, 6, "yhello", options);
  EXPECT_EQ(a.substr(9), b.substr(6));
}

TEST_F(Generate, StopsWhenAsked) {
  int made = 0;
  generate(step_, 6, "", {.length = 50}, [&](char) { return ++made == 3; });
  EXPECT_EQ(made, 3);
}

TEST_F(Generate, RefusesBadOptions) {
  EXPECT_THROW(generate(step_, 6, "", {.temperature = -1.0}), Error);
  EXPECT_THROW(generate(step_, 6, "", {.top_k = -1}), Error);
  EXPECT_THROW(generate(step_, 6, "", {.length = -1}), Error);
}

}  // namespace
}  // namespace espalier::train
