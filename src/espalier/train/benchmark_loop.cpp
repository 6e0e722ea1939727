// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/benchmark_loop.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include "espalier/base/error.h"

namespace espalier::train {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double sum(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

}  // namespace

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

void check_benchmark(const BenchmarkOptions& options) {
  ESPALIER_CHECK(options.steps > 0 && options.warmup >= 0, ErrorKind::user, "bench",
                 "--steps {} must be positive, --warmup {} not negative", options.steps,
                 options.warmup);
}

BenchmarkResult benchmark_loop(Step& step, const std::function<void(Step& step, int64_t i)>& feed,
                               const BenchmarkOptions& options) {
  check_benchmark(options);
  BenchmarkResult result;
  std::vector<double> feeding, host;
  Executable& executable = step.executable();
  for (int64_t i = 0; i < options.warmup + options.steps; ++i) {
    const bool timed = i >= options.warmup;
    if (i == options.warmup) executable.set_profiling(options.profile);
    const auto start = Clock::now();
    feed(step, i);
    const double fed = seconds_since(start);
    step.run();
    const double spent = seconds_since(start) - fed;
    if (i == 0) result.loss_first = step.loss();
    if (!timed) continue;
    feeding.push_back(fed);
    result.seconds.push_back(spent);
    host.push_back(executable.host_seconds_last_run());
  }
  result.loss_last = step.loss();
  const auto count = static_cast<double>(result.seconds.size());
  result.mean = sum(result.seconds) / count;
  result.median = median(result.seconds);
  double squares = 0.0;
  for (const double s : result.seconds) squares += (s - result.mean) * (s - result.mean);
  result.deviation = std::sqrt(squares / count);
  result.batch_seconds = median(feeding);
  result.host_seconds = median(host);
  result.steps_per_second = count / (sum(result.seconds) + sum(feeding));
  result.gflops = options.flops / result.median * 1e-9;
  if (options.profile) result.profile = executable.profile();
  return result;
}

}  // namespace espalier::train
