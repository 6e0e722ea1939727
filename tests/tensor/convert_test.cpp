// SPDX-License-Identifier: Apache-2.0
#include "espalier/tensor/convert.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <random>

#include "espalier/tensor/convert_kernels.h"

namespace espalier {
namespace {

constexpr DType kFloats[] = {DType::f32, DType::bf16, DType::f16, DType::f64};

/// Halfway cases, subnormals, and what overflows each type.
const std::vector<double> kValues = {0.0,          -0.0,         1.0,      -1.5,       0x1p-24,
                                     0x1.8p-25,    65504.0,      65519.0,  65520.0,    -1e6,
                                     1.00390625,   1.01171875,   0x1p-133, 0x1.8p-134, 3e38,
                                     1.0 + 0x1p-9, 1.0 + 0x1p-8, 0.1,      -0.3,       1e-40};

TEST(Convert, RoundsAsElementByElement) {
  const auto count = static_cast<int64_t>(kValues.size());
  for (const DType a : kFloats) {
    const HostTensor from = HostTensor::from_doubles(a, {count}, kValues);
    for (const DType b : kFloats) {
      const HostTensor to(b, {count});
      convert_values(from, 0, to);
      HostTensor expected(b, {count});
      for (int64_t i = 0; i < count; ++i) expected.set(i, from.get(i));
      for (int64_t i = 0; i < count; ++i) {
        EXPECT_EQ(to.get(i), expected.get(i)) << name(a) << " to " << name(b) << " " << i;
        EXPECT_EQ(std::signbit(to.get(i)), std::signbit(expected.get(i)));
      }
    }
  }
}

TEST(Convert, TakesAPartAndKeepsNan) {
  const HostTensor from =
      HostTensor::from_doubles(DType::f32, {4}, std::vector<double>{1.0, 2.0, std::nan(""), 4.0});
  const HostTensor to(DType::bf16, {2});
  convert_values(from, 1, to);
  EXPECT_EQ(to.get(0), 2.0);
  EXPECT_TRUE(std::isnan(to.get(1)));
  EXPECT_THROW(convert_values(from, 3, to), std::exception);
}

/// Every pattern of the upper half of f32, and random ones: lengths leave a tail behind registers.
std::vector<float> patterns() {
  std::vector<float> values;
  std::mt19937 random(3);
  for (uint32_t high = 0; high <= 0xFFFF; ++high) {
    for (const uint32_t low : {0u, 0x7FFFu, 0x8000u, 0x8001u, static_cast<uint32_t>(random())}) {
      values.push_back(std::bit_cast<float>(high << 16 | (low & 0xFFFF)));
    }
  }
  values.resize(values.size() - 3);
  return values;
}

TEST(Convert, VectorsRoundAndWidenAsTheBaselineBitForBit) {
  const std::vector<float> from = patterns();
  const auto count = static_cast<int64_t>(from.size());
  for (const DType dtype : {DType::bf16, DType::f16}) {
    std::vector<uint16_t> want(from.size()), got(from.size());
    const bool bf16 = dtype == DType::bf16;
    const detail::ConvertKernels& baseline = detail::kConvertBaseline;
    (bf16 ? baseline.to_bf16 : baseline.to_f16)(from.data(), count, want.data());
    round_values(from.data(), count, dtype, got.data());
    EXPECT_TRUE(want == got) << name(dtype);
    std::vector<float> wide(from.size()), narrow(from.size());
    (bf16 ? baseline.from_bf16 : baseline.from_f16)(want.data(), count, wide.data());
    widen_values(want.data(), dtype, count, narrow.data());
    int64_t not_finite = 0;
    for (size_t i = 0; i < wide.size(); ++i) {
      not_finite += !std::isfinite(wide[i]);
      if (std::isnan(wide[i])) {
        EXPECT_TRUE(std::isnan(narrow[i]));
      } else {
        EXPECT_EQ(std::bit_cast<uint32_t>(wide[i]), std::bit_cast<uint32_t>(narrow[i]));
      }
    }
    EXPECT_EQ(count_not_finite(want.data(), dtype, count), not_finite) << name(dtype);
  }
  const auto not_finite =
      std::count_if(from.begin(), from.end(), [](float v) { return !std::isfinite(v); });
  EXPECT_EQ(count_not_finite(from.data(), DType::f32, count), not_finite);
}

}  // namespace
}  // namespace espalier
