// SPDX-License-Identifier: Apache-2.0
// All shards of a run, several at a time.
#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "espalier/extract/shard_scan.h"

namespace espalier::extract {

struct ScanProgress {
  int64_t bytes = 0, total = 0;
  double seconds = 0.0;
};

struct RunScanOptions {
  bool checksums = true;
  std::vector<std::string> hooks;  // globs; empty: all
  int threads = 0;                 // shards at a time; 0: as many as there are processors
  std::function<void(const ScanProgress&)> progress;  // one call at a time
};

/// One activation over the run.
struct HookReport {
  std::string name;
  HookSummary summary;
  struct Token {
    double norm = 0.0;
    TokenPlace place;
  };
  std::vector<Token> largest;  // by norm, descending
};

struct RunScan {
  std::vector<std::string> wrong;  // in the order of the shards
  std::vector<int64_t> damaged;    // shards that would be right when made again
  std::vector<HookReport> hooks;
  DType dtype = DType::f32;  // of the first shard that could be read
  Compression compression = Compression::none;
  int64_t width = 0;
  int64_t tokens = 0;  // in shards that could be read
};

/// `entries` in the order of their shards. Statistics do not depend on the number of threads.
RunScan scan_run(Store& store, std::span<const ManifestEntry> entries,
                 const RunScanOptions& options);

}  // namespace espalier::extract
