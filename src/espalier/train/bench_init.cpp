// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/bench_init.h"

#include <omp.h>

#include <chrono>

#include "espalier/backend/cpu/cpu_info.h"
#include "espalier/backend/cpu/peak/peak.h"
#include "espalier/base/error.h"
#include "espalier/base/text.h"
#include "espalier/io/json.h"
#include "espalier/nn/init.h"
#include "espalier/train/bench_step.h"

namespace espalier::train {
namespace {

constexpr double kPeakSeconds = 0.2;
constexpr double kLargeModel = 31.6e9;  // BERT-100L-5120H

double values_per_second(HostTensor& tensor, int threads, int64_t repeats) {
  omp_set_num_threads(threads);
  std::vector<double> seconds;
  for (int64_t i = 0; i <= repeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    nn::fill(nn::Init::normal(0.02), static_cast<uint64_t>(i), "bench.weight", tensor);
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
    if (i > 0) seconds.push_back(spent.count());
  }
  return static_cast<double>(tensor.numel()) / median(seconds);
}

}  // namespace

InitBenchResult bench_init(const InitBenchOptions& options) {
  ESPALIER_CHECK(options.values > 0 && options.repeats > 0, ErrorKind::user, "bench",
                 "--values {} and --repeats {} must be positive", options.values, options.repeats);
  const int threads = cpu::cpu_info().cores;
  HostTensor tensor(DType::f32, {options.values});
  InitBenchResult result{.values = options.values, .threads = threads};
  result.one_thread = values_per_second(tensor, 1, options.repeats);
  result.all_threads = values_per_second(tensor, threads, options.repeats);
  result.write_one = cpu::measure_memory(1, kPeakSeconds).write;
  result.write_all = cpu::measure_memory(threads, kPeakSeconds).write;
  return result;
}

std::string init_bench_json(const InitBenchResult& r) {
  const nlohmann::ordered_json line{{"bench", "init"},
                                    {"values", r.values},
                                    {"threads", r.threads},
                                    {"values_per_second_one_thread", r.one_thread},
                                    {"values_per_second", r.all_threads},
                                    {"values_per_second_per_core", r.per_core()},
                                    {"write_bytes_per_second", r.write_all},
                                    {"share_of_write_bandwidth", r.share_of_write()}};
  return line.dump();
}

std::string init_bench_line(const InitBenchResult& r) {
  return fmt::format(
      "{} normal values: {:.2f}e9 a second on one thread, {:.2f}e9 on {} ({:.2f}e9 a core); that "
      "writes {:.1f} of {:.1f} GB/s ({:.0f} %); 31.6e9 values take {}",
      r.values, 1e-9 * r.one_thread, 1e-9 * r.all_threads, r.threads, 1e-9 * r.per_core(),
      4e-9 * r.all_threads, 1e-9 * r.write_all, 100.0 * r.share_of_write(),
      human_duration(kLargeModel / r.all_threads));
}

}  // namespace espalier::train
