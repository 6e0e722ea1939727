// SPDX-License-Identifier: Apache-2.0
// Speed of the byte LM's training step, beside the peak of the machine in the same run.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/train/byte_lm_options.h"

namespace espalier::train {

struct BenchSetting {
  models::ByteLmVariant variant = models::ByteLmVariant::library;
  DType dtype = DType::f32;
  bool compile = true;
  bool flash = true;
};

struct BenchOptions {
  models::ByteLmConfig model;
  int64_t batch = 16;
  int64_t steps = 10;  // timed; the median counts
  int64_t warmup = 2;  // before them
  int threads = 0;
  uint64_t seed = 0;
  double peak_seconds = 0.15;  // per measurement of the peak
};

struct BenchResult {
  BenchSetting setting;
  int64_t batch = 0;
  double step_seconds = 0.0;  // median
  double sequences_per_second = 0.0, sequences_per_second_min = 0.0, sequences_per_second_max = 0.0;
  double gflops = 0.0;
  double peak_gflops = 0.0;
  std::string peak_how;  // what the peak is of
  double share_of_peak = 0.0;
  double compile_seconds_cold = 0.0;    // with an empty folder of compiled loops
  double compile_seconds_cached = 0.0;  // again, loops from that folder
  double host_us_per_step = 0.0;
  int64_t memory_predicted_bytes = 0;
  int64_t memory_peak_bytes = 0;  // resident set less what it was before the state was made
  double loss_first = 0.0, loss_last = 0.0;
};

/// Measures settings one after the other on batches of the embedded corpus. `done` gets each
/// result as it comes.
std::vector<BenchResult> bench_byte_lm(const BenchOptions& options,
                                       const std::vector<BenchSetting>& settings,
                                       const std::function<void(const BenchResult&)>& done = {});

/// One JSON object on one line.
std::string bench_json(const BenchResult& result);
/// One line for people.
std::string bench_line(const BenchResult& result);

/// The settings of the three tables: models, dtype x compile, flash x compile.
std::vector<BenchSetting> table_settings();
/// Results of the same work by others, as bench/peers prints it: one JSON object a line. Throws
/// `data` naming the line.
struct PeerRow {
  std::string peer, model, dtype;
  bool compile = true, flash = true;
  int64_t batch = 0;
  double sequences_per_second = 0.0, gflops = 0.0;
};
std::vector<PeerRow> read_peers(const std::string& path);
/// The three tables as text, in sequences per second. Of the peers, those that did the same work:
/// with another batch or other operations a sequence they are left out, and the text says so.
std::string bench_tables(const std::vector<BenchResult>& results,
                         const std::vector<PeerRow>& peers);

}  // namespace espalier::train
