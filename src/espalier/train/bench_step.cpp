// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/bench_step.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <optional>

#include "espalier/base/error.h"
#include "espalier/io/file.h"
#include "espalier/train/memory.h"

namespace espalier::train {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

TemporaryFolder::TemporaryFolder() {
  std::string name = (fs::temp_directory_path() / "espalier-bench-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) {
    io::fail_errno(errno, {.stage = "bench", .next_step = "set TMPDIR to a folder you can write"},
                   "cannot make a folder", name);
  }
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

StepTimes bench_step(const std::function<Step(const std::string& cache_dir)>& make,
                     const std::function<void(Step& step, int64_t i)>& feed,
                     const StepBenchOptions& options) {
  const BenchmarkOptions loop{
      .steps = options.steps, .warmup = options.warmup, .profile = options.profile};
  check_benchmark(loop);
  StepTimes times;
  const TemporaryFolder cache;
  std::optional<Step> step;
  const auto compile = [&] {
    const auto start = Clock::now();
    step.emplace(make(cache.path()));
    step->compile();
    return seconds_since(start);
  };
  times.compile_seconds_cold = compile();
  // What the code generator took stays with the process and is not the run's memory.
  step.reset();
  release_free_memory();
  const int64_t before = resident_bytes();
  const int64_t peak_before = peak_resident_bytes();
  const bool counted = reset_peak_resident();
  times.compile_seconds_cached = compile();
  times.memory_predicted_bytes = step->executable().stats().predicted_bytes;
  step->initialize(options.seed);

  BenchmarkResult timed = benchmark_loop(*step, feed, loop);
  times.seconds = std::move(timed.seconds);
  times.step_seconds = timed.median;
  times.host_us_per_step = timed.host_seconds * 1e6;
  times.loss_first = timed.loss_first;
  times.loss_last = timed.loss_last;
  times.profile = std::move(timed.profile);
  const int64_t peak = counted ? peak_resident_bytes() : resident_bytes();
  times.memory_peak_bytes = peak - before;
  times.process_peak_bytes = std::max(peak, peak_before);
  return times;
}

}  // namespace espalier::train
