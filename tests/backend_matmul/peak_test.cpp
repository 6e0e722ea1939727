// SPDX-License-Identifier: Apache-2.0
#include "espalier/backend/cpu/peak/peak.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "espalier/base/error.h"

namespace espalier::cpu {

TEST(Peak, EveryNumberIsPlausible) {
  PeakOptions options{.threads = 1, .seconds = 0.02};
  options.disk_folder = testing::TempDir();
  options.disk_bytes = 4 << 20;
  const PeakReport report = measure_peak(options);
  EXPECT_EQ(report.threads, 1);
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    const ArithmeticPeak& peak = report.of(dtype);
    EXPECT_GT(peak.fma_one, 1e8) << name(dtype);
    EXPECT_LT(peak.fma_one, 1e13) << name(dtype);
    EXPECT_GT(peak.matmul_all, 0) << name(dtype);
    EXPECT_GE(peak.peak(), peak.fma_all);
    EXPECT_FALSE(peak.how.empty());
  }
  EXPECT_FALSE(report.f16.native);
  EXPECT_EQ(report.f16.fma_all, report.f32.fma_all);
  for (const double rate : {report.memory.read, report.memory.write, report.memory.triad}) {
    EXPECT_GT(rate, 1e7);
    EXPECT_LT(rate, 1e13);
  }
  EXPECT_GT(report.disk.write, 0);
  EXPECT_GT(report.disk.read, 0);
  EXPECT_LE(report.disk.bytes, 8 << 20);
}

TEST(Peak, BesideAMeasurementTheLargerOfBeforeAndAfterCounts) {
  PeakBeside peak({.threads = 1, .seconds = 0.02, .matmul = false, .memory = false});
  peak.measure();
  const double before = peak.of(DType::f32).peak();
  EXPECT_GT(before, 1e8);
  peak.measure();
  EXPECT_GE(peak.of(DType::f32).peak(), before);
  EXPECT_EQ(peak.of(DType::f16).peak(), peak.of(DType::f32).peak());
}

TEST(Peak, TheLargerIsTheOneWithTheHigherPeak) {
  const ArithmeticPeak loop{.fma_one = 9.0, .fma_all = 2.0, .matmul_all = 1.0, .how = "loop"};
  const ArithmeticPeak product{.fma_one = 1.0, .fma_all = 1.0, .matmul_all = 3.0, .how = "product"};
  EXPECT_EQ(larger(loop, product).how, "product");
  EXPECT_EQ(larger(product, loop).how, "product");
}

TEST(Peak, TheDiskFileIsGone) {
  const std::filesystem::path folder =
      std::filesystem::path(testing::TempDir()) / "espalier_peak_test";
  std::filesystem::create_directories(folder);
  measure_disk(folder.string(), 1 << 20);
  EXPECT_TRUE(std::filesystem::is_empty(folder));
  std::filesystem::remove_all(folder);
}

TEST(Peak, AFolderThatCannotBeWrittenIsNamed) {
  try {
    measure_disk("/nonexistent/folder", 1 << 20);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::user);
    EXPECT_NE(std::string(error.what()).find("cannot write a test file in \"/nonexistent/folder\""),
              std::string::npos);
  }
}

}  // namespace espalier::cpu
