// SPDX-License-Identifier: Apache-2.0
// espalier inspect: what is in a run, whether it is complete or still growing?
#pragma once

#include <string>
#include <vector>

#include "espalier/extract/run_index.h"
#include "espalier/extract/run_scan.h"

namespace espalier::extract {

struct InspectOptions {
  std::vector<std::string> hooks;  // globs of the activations that are read; empty: all
  int threads = 0;
  std::function<void(const ScanProgress&)> progress;
};

struct InspectReport {
  RunIndex index;
  DType dtype = DType::f32;
  Compression compression = Compression::none;
  int64_t width = 0;
  std::vector<HookReport> hooks;
};

/// Reads the activations of the shards that are done. Throws `user` when `store` holds no run, or a
/// glob matches nothing; `data` for a shard that cannot be read.
InspectReport inspect_run(Store& store, const InspectOptions& options = {});

}  // namespace espalier::extract
