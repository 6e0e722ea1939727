// SPDX-License-Identifier: Apache-2.0
#include "espalier/tensor/convert.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

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

}  // namespace
}  // namespace espalier
