// SPDX-License-Identifier: Apache-2.0
// Compares arrays element by element, each against its own error budget.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <span>
#include <vector>

namespace espalier::testing {

/// |got - want| <= budget for every element. NaN belongs to NaN, an infinity to the same infinity.
/// Failure names the worst element: index, got, want, budget and the share of it that was used.
inline ::testing::AssertionResult within(std::span<const double> got, std::span<const double> want,
                                         std::span<const double> budget) {
  if (got.size() != want.size() || want.size() != budget.size()) {
    return ::testing::AssertionFailure() << fmt::format("{} elements, {} wanted, {} budgets",
                                                        got.size(), want.size(), budget.size());
  }
  size_t worst = 0;
  size_t beyond = 0;
  double worst_share = -1.0;
  for (size_t i = 0; i < want.size(); ++i) {
    const bool same = got[i] == want[i] || (std::isnan(got[i]) && std::isnan(want[i]));
    const double error = std::abs(got[i] - want[i]);
    double share = same ? 0.0 : error / budget[i];
    if (std::isnan(share)) share = HUGE_VAL;
    beyond += share <= 1.0 ? 0 : 1;
    if (share > worst_share) {
      worst_share = share;
      worst = i;
    }
  }
  if (beyond == 0) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << fmt::format(
             "{} of {} elements are beyond their budget; worst [{}]: got {:.17g}, want {:.17g}, "
             "budget {:.3g}, {:.3g} % of it",
             beyond, want.size(), worst, got[worst], want[worst], budget[worst],
             100.0 * worst_share);
}

/// relative * |want| + absolute, for comparisons of two computations in double.
inline std::vector<double> budget_of(std::span<const double> want, double relative,
                                     double absolute) {
  std::vector<double> budget;
  for (double x : want) budget.push_back(relative * std::abs(x) + absolute);
  return budget;
}

inline ::testing::AssertionResult close(std::span<const double> got, std::span<const double> want,
                                        double relative = 1e-12, double absolute = 1e-12) {
  return within(got, want, budget_of(want, relative, absolute));
}

/// Equal to the last bit, up to the sign of zero and the payload of NaN.
inline ::testing::AssertionResult same(std::span<const double> got, std::span<const double> want) {
  return within(got, want, std::vector<double>(want.size(), 0.0));
}

}  // namespace espalier::testing
