// SPDX-License-Identifier: Apache-2.0
#include "espalier/backend/cpu/cpu_info.h"

#include <gtest/gtest.h>

#include "espalier/base/error.h"

namespace espalier::cpu {

TEST(CpuInfo, FindsCachesAndCores) {
  const CpuInfo& info = cpu_info();
  EXPECT_GE(info.l1_bytes, 16 << 10);
  EXPECT_GE(info.l2_bytes, info.l1_bytes);
  EXPECT_GE(info.cores, 1);
  EXPECT_LE(info.isa, info.hardware);
  EXPECT_FALSE(info.model.empty());
}

TEST(CpuInfo, NamesSurviveTheRoundTrip) {
  for (const Isa isa : {Isa::avx2, Isa::avx512, Isa::avx512_bf16}) {
    EXPECT_EQ(parse_isa(name(isa)), isa);
  }
  EXPECT_EQ(parse_isa("sse2"), std::nullopt);
}

TEST(CpuInfo, TheVariableOnlyLowers) {
  EXPECT_EQ(choose_isa(Isa::avx512_bf16, ""), Isa::avx512_bf16);
  EXPECT_EQ(choose_isa(Isa::avx512_bf16, "avx2"), Isa::avx2);
  EXPECT_EQ(choose_isa(Isa::avx512, "avx512"), Isa::avx512);
  const auto message = [](Isa hardware, const char* requested) -> std::string {
    try {
      choose_isa(hardware, requested);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::user);
      return error.what();
    }
    return "";
  };
  EXPECT_NE(message(Isa::avx2, "avx512").find("no more than avx2"), std::string::npos);
  EXPECT_NE(message(Isa::avx512, "neon").find("known are avx2, avx512, avx512_bf16"),
            std::string::npos);
}

}  // namespace espalier::cpu
