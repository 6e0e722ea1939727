// SPDX-License-Identifier: Apache-2.0
#include "espalier/tensor/dtype.h"

#include <gtest/gtest.h>

#include <cmath>

#include "espalier/base/error.h"
#include "espalier/tensor/shape.h"

namespace espalier {

TEST(DType, EveryF16PatternSurvivesTheRoundTrip) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const float value = from_f16(static_cast<uint16_t>(bits));
    if (std::isnan(value)) continue;
    EXPECT_EQ(to_f16(value), bits);
  }
}

TEST(DType, RoundingIsToNearestEvenFromDouble) {
  EXPECT_EQ(round_to(DType::bf16, 1.0 + 0x1p-8), 1.0);
  EXPECT_EQ(round_to(DType::bf16, 1.0 + 0x1p-8 + 0x1p-40), 1.0 + 0x1p-7);
  EXPECT_EQ(round_to(DType::f16, 65519.0), 65504.0);
  EXPECT_TRUE(std::isinf(round_to(DType::f16, 65520.0)));
}

TEST(Shape, OverflowIsAnError) {
  const Shape huge{int64_t{1} << 40, int64_t{1} << 40};
  EXPECT_THROW(huge.numel(), Error);
}

}  // namespace espalier
