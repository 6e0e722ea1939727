// SPDX-License-Identifier: Apache-2.0
// What a run consists of: shards, and for each of them its samples and the batches they are in.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "espalier/extract/batch_plan.h"
#include "espalier/extract/sample_source.h"

namespace espalier::extract {

/// All that is needed to make one shard, whoever makes it.
struct ShardWork {
  int64_t index = 0;
  int64_t first_sample = 0;  // index in the run of samples[0]
  std::vector<Sample> samples;
  std::vector<Batch> batches;  // their placements count from 0 in `samples`

  int64_t tokens() const {
    int64_t sum = 0;
    for (const Sample& sample : samples) sum += static_cast<int64_t>(sample.tokens.size());
    return sum;
  }
};

/// A plan may still grow while the first of its shards are made.
class RunPlan {
 public:
  virtual ~RunPlan() = default;
  /// Shards 0 to known() - 1 can be loaded.
  virtual int64_t known() = 0;
  /// How many there are in all, once that is known.
  virtual std::optional<int64_t> total() = 0;
  virtual ShardWork load(int64_t index) = 0;
};

}  // namespace espalier::extract
