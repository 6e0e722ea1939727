// SPDX-License-Identifier: Apache-2.0
// What the benchmarks of training steps share: compiling from nothing and from the cache, timed
// runs, memory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "espalier/train/benchmark_loop.h"
#include "espalier/train/step.h"

namespace espalier::train {

/// An empty folder, removed at the end.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

struct StepBenchOptions {
  int64_t steps = 10;  // timed; the median counts
  int64_t warmup = 2;  // before them
  uint64_t seed = 0;
  bool profile = false;  // fill StepTimes::profile
};

struct StepTimes {
  std::vector<double> seconds;          // of each timed step
  double step_seconds = 0.0;            // their median
  double compile_seconds_cold = 0.0;    // tracing and compiling with an empty folder of loops
  double compile_seconds_cached = 0.0;  // again, loops from that folder
  double host_us_per_step = 0.0;
  int64_t memory_predicted_bytes = 0;
  int64_t memory_peak_bytes = 0;   // resident set less what it was before the state was made
  int64_t process_peak_bytes = 0;  // the whole process, code generator and all
  double loss_first = 0.0, loss_last = 0.0;
  std::vector<ProfileRow> profile;  // of the timed steps
};

/// `make(cache_dir)` traces a step that is not compiled yet; `feed(step, i)` sets batch i.
StepTimes bench_step(const std::function<Step(const std::string& cache_dir)>& make,
                     const std::function<void(Step& step, int64_t i)>& feed,
                     const StepBenchOptions& options);

}  // namespace espalier::train
