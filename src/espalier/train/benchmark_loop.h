// SPDX-License-Identifier: Apache-2.0
// Times a step: runs it on one batch after the other and does nothing else in between.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "espalier/backend/executable.h"
#include "espalier/train/step.h"

namespace espalier::train {

/// The middle of `values`, or the mean of the two in the middle; there is at least one.
double median(std::vector<double> values);

struct BenchmarkOptions {
  int64_t steps = 100;   // timed
  int64_t warmup = 2;    // before them
  double flops = 0.0;    // of one step, for BenchmarkResult::gflops
  bool profile = false;  // times every kernel of the timed steps
};

/// Throws `user` when there is no step to time.
void check_benchmark(const BenchmarkOptions& options);

/// Seconds are wall-clock time.
struct BenchmarkResult {
  std::vector<double> seconds;  // of each timed step, without setting its batch
  double mean = 0.0, median = 0.0, deviation = 0.0;  // of `seconds`; the standard deviation
  double batch_seconds = 0.0;                        // to set a batch, median
  double host_seconds = 0.0;      // of a step outside kernels and oneDNN's execute, median
  double steps_per_second = 0.0;  // with batches
  double gflops = 0.0;            // at the median, 0 where the FLOPs are not known
  double loss_first = 0.0, loss_last = 0.0;  // the very first step, and the last
  std::vector<ProfileRow> profile;           // of the timed steps, where asked for
};

/// Runs a compiled and initialized step; `feed(step, i)` sets batch i, counted from 0 and with the
/// warmup. Throws what check_benchmark throws.
BenchmarkResult benchmark_loop(Step& step, const std::function<void(Step& step, int64_t i)>& feed,
                               const BenchmarkOptions& options = {});

}  // namespace espalier::train
