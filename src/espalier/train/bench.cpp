// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/bench.h"

#include <algorithm>

#include "espalier/backend/cpu/peak/peak.h"
#include "espalier/base/error.h"
#include "espalier/base/text.h"
#include "espalier/io/json.h"
#include "espalier/tensor/dtype_names.h"
#include "espalier/train/bench_step.h"
#include "espalier/train/byte_lm_steps.h"
#include "espalier/train/corpus.h"
#include "espalier/train/data.h"

namespace espalier::train {
namespace {

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

BenchResult bench_one(const BenchOptions& options, const BenchSetting& setting,
                      cpu::PeakBeside& peak) {
  const ByteSequences sequences(builtin_corpus(), options.model.seq_len, options.seed);
  std::vector<uint8_t> batch(static_cast<size_t>(options.batch * options.model.seq_len));
  const StepTimes times = bench_step(
      [&](const std::string& cache_dir) {
        return byte_lm_train_step(step_options(options, setting, cache_dir));
      },
      [&](Step& step, int64_t i) {
        sequences.fill(i * options.batch, options.batch, batch);
        step.set_batch("bytes", batch.data());
      },
      {.steps = options.steps, .warmup = options.warmup, .seed = options.seed});

  BenchResult result{.setting = setting, .batch = options.batch};
  const auto batch_size = static_cast<double>(options.batch);
  const auto [least, most] = std::minmax_element(times.seconds.begin(), times.seconds.end());
  result.step_seconds = times.step_seconds;
  result.sequences_per_second = batch_size / times.step_seconds;
  result.sequences_per_second_min = batch_size / *most;
  result.sequences_per_second_max = batch_size / *least;
  result.compile_seconds_cold = times.compile_seconds_cold;
  result.compile_seconds_cached = times.compile_seconds_cached;
  result.host_us_per_step = times.host_us_per_step;
  result.memory_predicted_bytes = times.memory_predicted_bytes;
  result.memory_peak_bytes = times.memory_peak_bytes;
  result.loss_first = times.loss_first;
  result.loss_last = times.loss_last;
  result.gflops = models::byte_lm_train_flops(options.model) * result.sequences_per_second * 1e-9;
  peak.measure();
  const cpu::ArithmeticPeak& beside = peak.of(setting.dtype);
  result.peak_gflops = beside.peak() * 1e-9;
  result.peak_how = beside.how;
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
  ESPALIER_CHECK(options.batch > 0, ErrorKind::user, "bench", "--batch {} must be positive",
                 options.batch);
  cpu::PeakBeside peak(
      {.threads = options.threads, .seconds = options.peak_seconds, .memory = false});
  peak.measure();
  std::vector<BenchResult> results;
  for (const BenchSetting& setting : settings) {
    results.push_back(bench_one(options, setting, peak));
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
