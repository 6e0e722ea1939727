// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/bench_step.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <map>
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

/// A label without its number of the layer: equal kernels of all layers are one row.
std::string without_numbers(const std::string& label) {
  std::string text;
  for (size_t i = 0; i < label.size(); ++i) {
    const bool starts = i > 0 && label[i - 1] == '.' && std::isdigit(label[i]) != 0;
    if (!starts) {
      text += label[i];
      continue;
    }
    while (i + 1 < label.size() && std::isdigit(label[i + 1]) != 0) ++i;
    text += '*';
  }
  return text;
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

std::string profile_text(const std::vector<ProfileRow>& rows, size_t lines) {
  struct Joined {
    std::string label;
    double seconds = 0.0, flops = 0.0, bytes = 0.0;
    int64_t count = 0;
  };
  std::map<std::string, Joined> by_label;
  double total = 0.0;
  for (const ProfileRow& row : rows) {
    if (row.calls == 0) continue;
    const auto calls = static_cast<double>(row.calls);
    Joined& j = by_label[row.kind + " " + without_numbers(row.label)];
    j.label = row.kind + " " + without_numbers(row.label);
    j.seconds += row.seconds / calls;
    j.flops += row.flops / calls;
    j.bytes += row.bytes / calls;
    ++j.count;
    total += row.seconds / calls;
  }
  std::vector<Joined> sorted;
  for (auto& [label, j] : by_label) sorted.push_back(std::move(j));
  std::sort(sorted.begin(), sorted.end(),
            [](const Joined& a, const Joined& b) { return a.seconds > b.seconds; });
  std::string text;
  for (size_t i = 0; i < std::min(lines, sorted.size()); ++i) {
    const Joined& j = sorted[i];
    text += fmt::format("{:>9.2f} ms {:>5.1f} % {:>4}x {:>7.1f} GFLOP/s {:>6.1f} GB/s  {}\n",
                        j.seconds * 1e3, 100.0 * j.seconds / total, j.count,
                        j.flops / j.seconds * 1e-9, j.bytes / j.seconds * 1e-9, j.label);
  }
  return text;
}

}  // namespace espalier::train
