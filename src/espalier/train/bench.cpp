// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/bench.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "espalier/backend/cpu/peak/peak.h"
#include "espalier/base/error.h"
#include "espalier/base/text.h"
#include "espalier/io/file.h"
#include "espalier/train/byte_lm_steps.h"
#include "espalier/train/corpus.h"
#include "espalier/train/data.h"
#include "espalier/train/memory.h"

namespace espalier::train {
namespace {

namespace fs = std::filesystem;

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

/// An empty folder, removed at the end.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (fs::temp_directory_path() / "espalier-bench-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) {
      io::fail_errno(errno, {.stage = "bench", .next_step = "set TMPDIR to a folder you can write"},
                     "cannot make a folder", name);
    }
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  std::string path() const { return path_.string(); }

 private:
  fs::path path_;
};

ByteLmOptions step_options(const BenchOptions& options, const BenchSetting& setting,
                           const std::string& cache_dir) {
  ByteLmOptions o;
  o.model = options.model;
  o.variant = setting.variant;
  o.batch_size = options.batch;
  o.seed = options.seed;
  o.compile.compute_dtype = setting.dtype;
  o.compile.fuse = setting.compile;
  o.compile.flash = setting.flash;
  o.compile.threads = options.threads;
  o.compile.cache_dir = cache_dir;
  return o;
}

/// Seconds from the model's code to something that runs: tracing and compiling.
double compile_seconds(std::optional<Step>& step, const ByteLmOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  step.emplace(byte_lm_train_step(options));
  step->compile();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void run_steps(Step& step, const BenchOptions& options, BenchResult& result) {
  const ByteSequences sequences(builtin_corpus(), options.model.seq_len, options.seed);
  std::vector<uint8_t> batch(static_cast<size_t>(options.batch * options.model.seq_len));
  std::vector<double> seconds, host;
  for (int64_t i = 0; i < options.warmup + options.steps; ++i) {
    sequences.fill(i * options.batch, options.batch, batch);
    step.set_batch("bytes", batch.data());
    const auto start = std::chrono::steady_clock::now();
    step.run();
    const auto end = std::chrono::steady_clock::now();
    if (i == 0) result.loss_first = step.loss();
    if (i < options.warmup) continue;
    seconds.push_back(std::chrono::duration<double>(end - start).count());
    host.push_back(step.executable().host_seconds_last_run());
  }
  result.loss_last = step.loss();
  const auto batch_size = static_cast<double>(options.batch);
  result.step_seconds = median(seconds);
  result.sequences_per_second = batch_size / result.step_seconds;
  result.sequences_per_second_min = batch_size / *std::max_element(seconds.begin(), seconds.end());
  result.sequences_per_second_max = batch_size / *std::min_element(seconds.begin(), seconds.end());
  result.host_us_per_step = median(host) * 1e6;
}

BenchResult bench_one(const BenchOptions& options, const BenchSetting& setting,
                      const cpu::ArithmeticPeak& peak) {
  BenchResult result{.setting = setting, .batch = options.batch};
  const TemporaryFolder cache;
  const ByteLmOptions step_of = step_options(options, setting, cache.path());
  std::optional<Step> step;
  result.compile_seconds_cold = compile_seconds(step, step_of);
  // What the code generator took stays with the process and is not the run's memory.
  step.reset();
  release_free_memory();
  const int64_t before = resident_bytes();
  const bool counted = reset_peak_resident();
  result.compile_seconds_cached = compile_seconds(step, step_of);
  result.memory_predicted_bytes = step->executable().stats().predicted_bytes;
  step->initialize(options.seed);
  run_steps(*step, options, result);
  result.memory_peak_bytes = (counted ? peak_resident_bytes() : resident_bytes()) - before;

  result.gflops = models::byte_lm_train_flops(options.model) * result.sequences_per_second * 1e-9;
  result.peak_gflops = peak.peak() * 1e-9;
  result.peak_how = peak.how;
  result.share_of_peak = result.gflops / result.peak_gflops;
  return result;
}

std::string variant_name(const BenchSetting& setting) {
  return setting.variant == models::ByteLmVariant::library ? "library" : "handcraft";
}

}  // namespace

std::vector<BenchResult> bench_byte_lm(const BenchOptions& options,
                                       const std::vector<BenchSetting>& settings,
                                       const std::function<void(const BenchResult&)>& done) {
  ESPALIER_CHECK(options.steps > 0 && options.warmup >= 0 && options.batch > 0, ErrorKind::user,
                 "bench", "--steps {} and --batch {} must be positive, --warmup {} not negative",
                 options.steps, options.batch, options.warmup);
  const cpu::PeakReport peak = cpu::measure_peak(
      {.threads = options.threads, .seconds = options.peak_seconds, .memory = false});
  std::vector<BenchResult> results;
  for (const BenchSetting& setting : settings) {
    results.push_back(bench_one(options, setting, peak.of(setting.dtype)));
    if (done) done(results.back());
  }
  return results;
}

std::string bench_json(const BenchResult& r) {
  const nlohmann::ordered_json line{{"bench", "byte-lm"},
                                    {"model", variant_name(r.setting)},
                                    {"dtype", std::string(long_name(r.setting.dtype))},
                                    {"compile", r.setting.compile ? 1 : 0},
                                    {"flash", r.setting.flash ? 1 : 0},
                                    {"batch", r.batch},
                                    {"sequences_per_second", r.sequences_per_second},
                                    {"sequences_per_second_min", r.sequences_per_second_min},
                                    {"sequences_per_second_max", r.sequences_per_second_max},
                                    {"gflops", r.gflops},
                                    {"peak_gflops", r.peak_gflops},
                                    {"peak_of", r.peak_how},
                                    {"share_of_peak", r.share_of_peak},
                                    {"compile_seconds_cold", r.compile_seconds_cold},
                                    {"compile_seconds_cached", r.compile_seconds_cached},
                                    {"host_us_per_step", r.host_us_per_step},
                                    {"memory_predicted_bytes", r.memory_predicted_bytes},
                                    {"memory_peak_bytes", r.memory_peak_bytes},
                                    {"step_seconds", r.step_seconds},
                                    {"loss_first", r.loss_first},
                                    {"loss_last", r.loss_last}};
  return line.dump();
}

std::string bench_line(const BenchResult& r) {
  return fmt::format(
      "{:<9} {:<8} compile {} flash {} batch {}: {:.2f} seq/s ({:.2f} to {:.2f}), {:.1f} GFLOP/s, "
      "{:.1f} % of {:.1f} ({}); compile {:.2f} s cold, {:.2f} s cached; host {:.1f} us a step; "
      "memory {} predicted, {} measured",
      variant_name(r.setting), long_name(r.setting.dtype), r.setting.compile ? 1 : 0,
      r.setting.flash ? 1 : 0, r.batch, r.sequences_per_second, r.sequences_per_second_min,
      r.sequences_per_second_max, r.gflops, 100.0 * r.share_of_peak, r.peak_gflops, r.peak_how,
      r.compile_seconds_cold, r.compile_seconds_cached, r.host_us_per_step,
      human_bytes(r.memory_predicted_bytes), human_bytes(r.memory_peak_bytes));
}

}  // namespace espalier::train
