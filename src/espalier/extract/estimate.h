// SPDX-License-Identifier: Apache-2.0
// espalier extract --dry-run: what a run would be, without making any of it. The whole dataset is
// planned; how fast this machine is comes from a few shards that are really made, spread over the
// plan, and written beside the output (or into the folder for temporary files, when that is an
// object store) and removed.
#pragma once

#include "espalier/extract/job.h"

namespace espalier::extract {

struct Estimate {
  std::vector<std::string> hooks;
  int64_t width = 0;
  int64_t shard_tokens = 0;
  PlanTotals plan;
  LengthSurvey lengths;  // what each length policy would do
  /// The run would stop: a sample is too long under LengthPolicy::error. Then the plan is that of
  /// LengthPolicy::window, and nothing is measured.
  bool refused = false;
  double useful_share = 1.0;
  double flops = 0.0;
  int64_t bytes = 0;               // of all shards
  int64_t free_bytes = -1;         // where they would go; -1: unknown
  double seconds = 0.0;            // of the run, from the start of the command, by all its workers
  double start_seconds = 0.0;      // of these: until the models are ready
  double tokens_per_second = 0.0;  // after that, of this process
  int64_t measured_shards = 0;
  double measured_seconds = 0.0;
  bool network = false;  // the output is an object store: the way there is not measured
};

/// Throws like run_extract; a signal ends it early with what is known (seconds 0).
Estimate estimate_extract(const ExtractOptions& options, const ExtractEvents& events);

}  // namespace espalier::extract
