// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <utility>
#include <vector>

#include "espalier/extract/plan_piece.h"

namespace espalier::extract {

/// A plan of a few shards, whatever they were before: numbers and samples count from 0.
class MemoryPlan final : public RunPlan {
 public:
  explicit MemoryPlan(std::vector<ShardWork> shards) : shards_(std::move(shards)) {
    for (ShardWork& shard : shards_) {
      shard.index = totals_.shards;
      shard.first_sample = totals_.samples;
      totals_.add(shard);
    }
  }
  int64_t known() override { return totals_.shards; }
  std::optional<int64_t> total() override { return totals_.shards; }
  ShardWork load(int64_t index) override { return shards_[static_cast<size_t>(index)]; }
  const PlanTotals& totals() const { return totals_; }

 private:
  std::vector<ShardWork> shards_;
  PlanTotals totals_;
};

}  // namespace espalier::extract
