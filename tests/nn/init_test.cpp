// SPDX-License-Identifier: Apache-2.0
#include "espalier/nn/init.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "espalier/nn/init_kernels.h"

namespace espalier::nn {
namespace {

std::vector<float> drawn(const Init& init, int64_t first, size_t count, uint64_t seed = 3) {
  std::vector<float> values(count, NAN);
  fill(init, seed, "layers.0.weight", first, values);
  return values;
}

struct Moments {
  double mean = 0.0, variance = 0.0, largest = 0.0;
};
Moments moments(const std::vector<float>& values) {
  Moments m;
  for (float v : values) m.mean += v;
  m.mean /= static_cast<double>(values.size());
  for (float v : values) {
    m.variance += (v - m.mean) * (v - m.mean);
    m.largest = std::max(m.largest, std::abs(static_cast<double>(v)));
  }
  m.variance /= static_cast<double>(values.size());
  return m;
}

constexpr size_t kMany = 1 << 20;
// Five standard errors of the mean and of the variance of kMany independent draws.
double mean_bound(double deviation) { return 5.0 * deviation / std::sqrt(double{kMany}); }
double variance_bound(double deviation, double kurtosis) {
  return 5.0 * deviation * deviation * std::sqrt((kurtosis - 1.0) / double{kMany});
}

TEST(Init, EveryPartOfATensorGetsTheValuesOfTheWhole) {
  // The range crosses blocks and 2^32, where the high half of the index changes.
  const int64_t first = (int64_t{1} << 32) - 70001;
  for (const Init& init : {Init::uniform(0.5), Init::normal(2.0), Init::truncated_normal(0.1)}) {
    const std::vector<float> whole = drawn(init, first, 140003);
    for (size_t at : {size_t{0}, size_t{1}, size_t{65535}, size_t{70000}, size_t{139990}}) {
      EXPECT_EQ(drawn(init, first + static_cast<int64_t>(at), 13),
                std::vector<float>(whole.begin() + static_cast<int64_t>(at),
                                   whole.begin() + static_cast<int64_t>(at) + 13));
    }
  }
}

TEST(Init, DependsOnSeedAndPath) {
  const std::vector<float> values = drawn(Init::normal(1.0), 0, 8);
  EXPECT_NE(values, drawn(Init::normal(1.0), 0, 8, 4));
  std::vector<float> other(8);
  fill(Init::normal(1.0), 3, "layers.1.weight", 0, other);
  EXPECT_NE(values, other);
}

TEST(Init, UniformHasItsBoundAndMoments) {
  const Moments m = moments(drawn(Init::uniform(0.25), 0, kMany));
  const double deviation = 0.25 / std::sqrt(3.0);
  EXPECT_LE(m.largest, 0.25);
  EXPECT_GT(m.largest, 0.2499);
  EXPECT_NEAR(m.mean, 0.0, mean_bound(deviation));
  EXPECT_NEAR(m.variance, deviation * deviation, variance_bound(deviation, 1.8));
}

TEST(Init, NormalHasItsMomentsAndTails) {
  std::vector<float> values = drawn(Init::normal(2.0), 0, kMany);
  const Moments m = moments(values);
  EXPECT_NEAR(m.mean, 0.0, mean_bound(2.0));
  EXPECT_NEAR(m.variance, 4.0, variance_bound(2.0, 3.0));
  // Kolmogorov-Smirnov at about one in 10^6: sqrt(-ln(p/2)/2) / sqrt(n).
  std::sort(values.begin(), values.end());
  double largest_gap = 0.0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double p = 0.5 * std::erfc(-values[i] / 2.0 / std::sqrt(2.0));
    largest_gap = std::max(largest_gap, std::abs(p - (static_cast<double>(i) + 0.5) / kMany));
  }
  EXPECT_LT(largest_gap, 2.7 / std::sqrt(double{kMany}));
  EXPECT_GT(values.back(), 2.0 * 4.3);
  EXPECT_LT(values.back(), 2.0 * 5.5);
}

TEST(Init, TruncatedNormalHasTheVarianceItNames) {
  const Moments m = moments(drawn(Init::lecun_normal(64), 0, kMany));
  const double deviation = 0.125;
  EXPECT_NEAR(m.variance, deviation * deviation, variance_bound(deviation, 3.0));
  EXPECT_LE(m.largest, 2.0 * deviation / 0.87962566 * (1.0 + 1e-5));
}

TEST(Init, WholeTensorsOfEveryFloatTypeHoldTheSameValues) {
  const Init init = Init::normal(1.0);
  HostTensor wide(DType::f32, {300, 301});
  fill(init, 9, "w", wide);
  for (DType dtype : {DType::f64, DType::bf16, DType::f16}) {
    HostTensor narrow(dtype, {300, 301});
    fill(init, 9, "w", narrow);
    for (int64_t i = 0; i < wide.numel(); i += 97) {
      EXPECT_EQ(narrow.get(i), round_to(dtype, wide.get(i)));
    }
  }
}

TEST(Init, VectorCodeHasTheBitsOfTheBaseline) {
  // 2^19 values reach the tail of the quantile 1,800 times; odd counts leave parts of vectors.
  constexpr uint32_t kCount = (1 << 19) + 13;
  const auto key = RngKey{0x12345678u, 0x9ABCDEF0u};
  for (const Init::Kind kind : {Init::Kind::normal, Init::Kind::truncated_normal}) {
    const detail::Block block{kind, 0.02f, key, 0xFFFF0000u, 77u};
    std::vector<float> expected(kCount), values(kCount, NAN);
    detail::fill_block_baseline(block, expected.data(), kCount);
#if defined(__x86_64__)
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) GTEST_SKIP();
    const int64_t done = detail::fill_normals_avx2(block, values.data(), kCount);
    EXPECT_EQ(done, kCount - 13);
    values.resize(static_cast<size_t>(done));
    expected.resize(static_cast<size_t>(done));
    EXPECT_EQ(values, expected);
#endif
  }
}

TEST(Init, PiecesHaveTheValuesOfTheWhole) {
  const Shape whole{6, 8, 10};
  const Init init = Init::normal(1.0);
  HostTensor all(DType::f32, whole);
  fill(init, 3, "w", all);
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
    for (const shard::Region& region : {shard::Region{{0, 0, 0}, {6, 8, 10}, whole},
                                        {{3, 0, 0}, {3, 8, 10}, whole},
                                        {{0, 4, 0}, {6, 2, 10}, whole},
                                        {{2, 2, 5}, {2, 4, 5}, whole},
                                        {{5, 7, 9}, {1, 1, 1}, whole}}) {
      HostTensor piece(dtype, region.size);
      fill(init, 3, "w", region, piece);
      int64_t at = 0;
      for (int64_t i = 0; i < region.size[0]; ++i) {
        for (int64_t j = 0; j < region.size[1]; ++j) {
          for (int64_t k = 0; k < region.size[2]; ++k) {
            const int64_t index =
                ((region.first[0] + i) * 8 + region.first[1] + j) * 10 + region.first[2] + k;
            EXPECT_EQ(piece.get(at++), round_to(dtype, all.get(index)));
          }
        }
      }
    }
  }
}

TEST(Init, ConstantsAreConstant) {
  EXPECT_EQ(drawn(Init::zeros(), 5, 3), (std::vector<float>{0, 0, 0}));
  EXPECT_EQ(drawn(Init::ones(), 5, 3), (std::vector<float>{1, 1, 1}));
}

}  // namespace
}  // namespace espalier::nn
