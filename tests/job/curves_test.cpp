// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/curves.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "espalier/base/error.h"

namespace espalier::train {
namespace {

TEST(Curves, DeviationsAreOfMovingMeans) {
  const RunCurve a{"a", {1, 2, 3, 4}, {4.0, 2.0, 2.0, 2.0}};
  const RunCurve b{"b", {2, 3, 4, 5}, {2.0, 3.0, 3.0, 9.0}};
  const auto exact = deviations({a, b}, 1);
  ASSERT_EQ(exact.size(), 1u);
  EXPECT_EQ(exact[0].largest, 1.0);
  EXPECT_EQ(exact[0].at_step, 3.0);
  EXPECT_DOUBLE_EQ(exact[0].relative, 1.0 / 2.5);
  EXPECT_EQ(exact[0].last, -1.0);
  // Means over two points at steps 2, 3, 4: (2, 2), (2, 2.5), (2, 3).
  EXPECT_EQ(deviations({a, b}, 2)[0].at_step, 4.0);
  EXPECT_EQ(deviations({a, b, a}, 2)[1].largest, 0.0);
}

TEST(Curves, RefuseWhatCannotBeCompared) {
  const RunCurve a{"a", {1}, {1.0}}, b{"b", {2}, {1.0}};
  EXPECT_THROW(deviations({a, b}, 1), Error);
  EXPECT_THROW(deviations({a, a}, 0), Error);
}

TEST(Curves, AreReadFromRunsAndDrawn) {
  const std::filesystem::path run = std::filesystem::path(::testing::TempDir()) / "curves_run";
  std::filesystem::create_directories(run);
  std::ofstream(run / "metrics.csv") << "step,loss,eval\n1,3.5,\n2,3.25,7\n";
  const RunCurve curve = read_curve(run, "loss", "first");
  EXPECT_EQ(curve.values, (std::vector<double>{3.5, 3.25}));
  EXPECT_EQ(read_curve(run, "eval", "x").steps, (std::vector<double>{2}));
  EXPECT_THROW(read_curve(run, "speed", "x"), Error);
  const auto page = run / "curves.html";
  write_curves(page, "loss", {curve, curve}, deviations({curve, curve}, 1));
  EXPECT_GT(std::filesystem::file_size(page), 1000u);
}

}  // namespace
}  // namespace espalier::train
