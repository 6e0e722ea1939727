// SPDX-License-Identifier: Apache-2.0
#include "espalier/base/parallel.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <string>
#include <vector>

namespace espalier {
namespace {

TEST(Parallel, EveryPieceOnce) {
  for (const int threads : {0, 1, 3}) {
    for (const int64_t count : {0, 1, 2, 100}) {
      std::vector<std::atomic<int>> calls(static_cast<size_t>(count));
      parallel_for(count, threads, [&](int64_t i) { ++calls[static_cast<size_t>(i)]; });
      for (const auto& n : calls) EXPECT_EQ(n, 1);
    }
  }
}

TEST(Parallel, AnErrorStopsTheRest) {
  std::atomic<int> calls = 0;
  try {
    parallel_for(1000000, 2, [&](int64_t i) {
      ++calls;
      if (i >= 5) throw std::runtime_error(std::to_string(i));
    });
    FAIL() << "nothing was thrown";
  } catch (const std::runtime_error& error) {
    // The other thread may have begun no more than one piece.
    EXPECT_TRUE(error.what() == std::string("5") || error.what() == std::string("6"));
  }
  EXPECT_LE(calls, 8);
}

}  // namespace
}  // namespace espalier
