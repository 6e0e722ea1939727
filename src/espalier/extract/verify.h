// SPDX-License-Identifier: Apache-2.0
// espalier verify: is a run whole, and are its bytes what was written?
#pragma once

#include <string>
#include <vector>

#include "espalier/extract/run_scan.h"
#include "espalier/extract/store.h"

namespace espalier::extract {

struct VerifyOptions {
  int threads = 0;  // shards at a time; 0: as many as there are processors
  /// Leave a note of each damaged shard, by which extract makes it again, and take the notes of
  /// those back that are right. Nothing else of a run is ever changed.
  bool note_damage = true;
  std::function<void(const ScanProgress&)> progress;
};

struct VerifyReport {
  int64_t shards = 0, samples = 0, tokens = 0;
  int64_t bytes = 0, raw_bytes = 0;  // stored, and before compression
  int64_t not_finite = 0;            // values of activations that are NaN or infinite
  std::vector<int64_t> damaged;      // shards that extract makes again
  std::vector<std::string> wrong;    // one line for each thing that is
  std::vector<HookReport> hooks;     // statistics of what could be read
  double seconds = 0.0;
  bool pass() const { return wrong.empty(); }
};

/// Reads every byte of a run: sizes, checksums, each sample exactly once, offsets, finite values.
/// Throws `user` when `store` holds no run.
VerifyReport verify_run(Store& store, const VerifyOptions& options = {});
/// The same of a folder or URL.
VerifyReport verify_run(const std::string& url, const VerifyOptions& options = {});

}  // namespace espalier::extract
