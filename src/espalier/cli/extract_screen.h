// SPDX-License-Identifier: Apache-2.0
// What an extraction shows while it goes, on standard error: standard output is for the report.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "espalier/extract/job.h"

namespace espalier::cli {

/// "[####------] 12 of 30 shards, 1040 samples, 3.1 samples/s, 244 tokens/s, 6.1 MiB/s, ..."
std::string progress_line(const extract::ExtractProgress& progress);

/// On a terminal one line that is rewritten, elsewhere a line now and then when shards were done.
class ExtractScreen {
 public:
  explicit ExtractScreen(bool quiet);
  ~ExtractScreen();
  ExtractScreen(const ExtractScreen&) = delete;
  ExtractScreen& operator=(const ExtractScreen&) = delete;
  /// Callbacks into this object.
  extract::ExtractEvents events();

 private:
  using Clock = std::chrono::steady_clock;
  void line(std::string_view text);
  void show(const extract::ExtractProgress& progress);

  bool quiet_, terminal_;
  bool shown_ = false;
  int64_t last_done_ = -1;
  Clock::time_point last_;
};

}  // namespace espalier::cli
