// SPDX-License-Identifier: Apache-2.0
// espalier verify: is a run whole, and are its bytes what was written?
#pragma once

#include <string>
#include <vector>

#include "espalier/extract/store.h"

namespace espalier::extract {

struct VerifyReport {
  int64_t shards = 0, samples = 0, tokens = 0, bytes = 0;
  int64_t not_finite = 0;          // values of activations that are NaN or infinite
  std::vector<std::string> wrong;  // one line for each thing that is
  bool pass() const { return wrong.empty(); }
};

/// Reads every shard: sizes, checksums, each sample exactly once, offsets, finite values.
VerifyReport verify_run(const std::string& folder);

}  // namespace espalier::extract
