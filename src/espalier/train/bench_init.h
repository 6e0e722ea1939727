// SPDX-License-Identifier: Apache-2.0
// How fast initial values are made, beside the rate at which memory takes them.
#pragma once

#include <cstdint>
#include <string>

namespace espalier::train {

struct InitBenchOptions {
  int64_t values = int64_t{1} << 26;  // of the tensor, f32
  int64_t repeats = 5;                // the median counts
};

struct InitBenchResult {
  int64_t values = 0;
  int threads = 1;
  double one_thread = 0.0;   // normal values a second
  double all_threads = 0.0;  // the same on every thread
  double write_one = 0.0;    // bytes a second that one thread writes to memory
  double write_all = 0.0;

  double per_core() const { return all_threads / threads; }
  double share_of_write() const { return 4.0 * all_threads / write_all; }
};

InitBenchResult bench_init(const InitBenchOptions& options);

std::string init_bench_json(const InitBenchResult& result);
std::string init_bench_line(const InitBenchResult& result);

}  // namespace espalier::train
