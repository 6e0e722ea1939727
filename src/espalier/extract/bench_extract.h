// SPDX-License-Identifier: Apache-2.0
// Speed of reading activations: the bare forward pass, beside the peak of the machine in the same
// run, and the whole extraction over it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "espalier/backend/executable.h"

namespace espalier::extract {

struct ExtractBenchOptions {
  std::string model;                // Hugging Face folder; empty: random values, made first
  std::string model_size = "0.5b";  // of that model: 0.5b, 7b
  std::string folder;               // where it is made and kept; empty: a temporary folder
  DType weights = DType::bf16;      // of that model
  std::vector<int64_t> batches{4};
  int64_t seq = 512;
  std::string layers = "10-23";  // of the extraction; the bare pass goes through all
  std::string activation = "residual";
  int64_t steps = 3;             // timed passes; the median counts
  int64_t extract_batches = 10;  // of the whole extraction; 0: leave it out
  std::string output;            // where its shards go; empty: a temporary folder
  uint64_t seed = 0;
  bool profile = false;  // fill ExtractBenchResult::profile
  double peak_seconds = 0.15;
  CompileOptions compile;
};

struct ExtractBenchResult {
  std::string model;
  DType dtype = DType::f32;
  int64_t batch = 0, seq = 0;
  std::vector<double> seconds;  // of each timed pass
  double step_seconds = 0.0;    // their median
  double tokens_per_second_forward = 0.0;
  double gflops = 0.0, peak_gflops = 0.0, share_of_peak = 0.0;
  std::string peak_how;
  /// From the start of the process to the end of the first batch (of a later row: from opening the
  /// model), less the time in which the model was made.
  double first_batch_seconds = 0.0;
  double compile_seconds = 0.0;
  int64_t compiles = 0;
  int64_t memory_peak_bytes = 0;  // resident, the whole process, while the bare pass ran
  int64_t packed_bytes = 0;       // of weights in the layouts of kernels
  // The whole extraction of rows without padding, from its first shard on the disk to its last.
  double tokens_per_second_extract = 0.0;
  double bytes_written_per_second = 0.0;
  double disk_bytes_per_second = 0.0;  // a file written in order and flushed, in the same folder
  int64_t memory_extract_peak_bytes = 0;
  std::vector<ProfileRow> profile;
};

/// One result for each batch, `done` gets each as it comes. Throws `user` for sizes that are not
/// positive and for an unknown size of model.
std::vector<ExtractBenchResult> bench_extract(
    const ExtractBenchOptions& options, const std::function<void(const ExtractBenchResult&)>& done);

/// One JSON object on one line.
std::string extract_bench_json(const ExtractBenchResult& result);
/// One line for people.
std::string extract_bench_line(const ExtractBenchResult& result);

}  // namespace espalier::extract
