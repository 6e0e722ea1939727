// SPDX-License-Identifier: Apache-2.0
#include "espalier/cli/progress_bar.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>

#include "espalier/base/text.h"

namespace espalier::cli {
namespace {
constexpr int kWidth = 30;
}

ProgressBar::ProgressBar() : terminal_(isatty(STDERR_FILENO) != 0) {}

ProgressBar::~ProgressBar() {
  if (shown_) std::fputs("\r\x1b[K", stderr);
}

void ProgressBar::show(double share, std::string_view text) {
  const auto now = Clock::now();
  if (!terminal_ || (shown_ && share < 1.0 && now - last_ < std::chrono::milliseconds(100))) return;
  last_ = now;
  shown_ = true;
  const int full = static_cast<int>(std::clamp(share, 0.0, 1.0) * kWidth);
  fmt::print(stderr, "\r\x1b[K[{}{}] {:3.0f} %  {}", std::string(static_cast<size_t>(full), '#'),
             std::string(static_cast<size_t>(kWidth - full), '.'), 100.0 * share, text);
  std::fflush(stderr);
}

std::string rate_and_rest(int64_t bytes, int64_t total, double seconds) {
  if (bytes == 0 || seconds <= 0.0) return {};
  const double rate = static_cast<double>(bytes) / seconds;
  return fmt::format("{}/s, {} left", human_bytes(static_cast<int64_t>(rate)),
                     human_duration(static_cast<double>(total - bytes) / rate));
}

}  // namespace espalier::cli
