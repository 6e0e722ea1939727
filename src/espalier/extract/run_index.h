// SPDX-License-Identifier: Apache-2.0
// What a run's folder says of itself, for those who read it.
#pragma once

#include <string>
#include <vector>

#include "espalier/extract/manifest.h"
#include "espalier/extract/store.h"

namespace espalier::extract {

struct RunIndex {
  std::string settings;                // run.json
  std::vector<ManifestEntry> entries;  // shards 0, 1, ... as far as they are wanted
  bool complete = false;               // manifest.jsonl is there

  int64_t samples() const;
  int64_t tokens() const;
  int64_t bytes() const;
  int64_t raw_bytes() const;
};

/// Throws `user` when `store` holds no run; `data` for a damaged manifest, for shards that a check
/// found damaged, and, unless `partial`, for a run that is not complete. A partial index has the
/// shards before the first that is missing.
RunIndex open_run(Store& store, bool partial = false);

/// run.json, or the `user` error that there is none.
std::string run_settings(Store& store);

}  // namespace espalier::extract
