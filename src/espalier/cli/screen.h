// SPDX-License-Identifier: Apache-2.0
// What a training run shows while it goes.
#pragma once

#include <chrono>
#include <string_view>

#include "espalier/train/run_job.h"

namespace espalier::cli {

/// On a terminal one line that is rewritten, elsewhere a line for every log_every steps.
class Screen {
 public:
  Screen();
  ~Screen();
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;
  /// Callbacks into this object.
  train::JobEvents events();

 private:
  using Clock = std::chrono::steady_clock;
  void line(std::string_view text);
  void show(const train::Progress& progress);

  bool terminal_;
  bool shown_ = false;
  Clock::time_point last_;
};

}  // namespace espalier::cli
