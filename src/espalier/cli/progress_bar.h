// SPDX-License-Identifier: Apache-2.0
// One line on a terminal that shows how far something is. Elsewhere nothing is printed.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace espalier::cli {

class ProgressBar {
 public:
  ProgressBar();
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  /// `share` in [0, 1]; `text` stands behind the bar. At most ten times a second, and at the end.
  void show(double share, std::string_view text);

 private:
  using Clock = std::chrono::steady_clock;
  bool terminal_;
  bool shown_ = false;
  Clock::time_point last_;
};

/// "1.20 GiB/s, 12 s left" of work that is counted in bytes.
std::string rate_and_rest(int64_t bytes, int64_t total, double seconds);

}  // namespace espalier::cli
