// SPDX-License-Identifier: Apache-2.0
// A run's plan in its store: written by one worker, read by all.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "espalier/extract/plan_piece.h"
#include "espalier/extract/store.h"
#include "espalier/io/json.h"

namespace espalier::extract {

/// What plan.json says, if it is there. `run` is the checksum of run.json. Throws `data` when it is
/// damaged or of another run.
std::optional<PlanTotals> stored_totals(Store& store, std::string_view run);

class StoredPlan final : public RunPlan {
 public:
  /// `run` is what run.json is to say (run_file.h). Nothing is read before the first call.
  StoredPlan(Store& store, nlohmann::ordered_json run);

  /// Whether run.json is there. Throws `user` when it is of another run, naming what differs.
  bool joined();
  /// Writes run.json, or compares as above.
  void begin();

  // Before there is a run.json, nothing is known.
  int64_t known() override;
  std::optional<int64_t> total() override;
  ShardWork load(int64_t index) override;
  /// Once the plan is complete.
  std::optional<PlanTotals> totals();

  /// What the last calls of these found, without asking the store.
  int64_t known_so_far() const;
  std::optional<PlanTotals> totals_so_far() const;

  /// Where an earlier planner left off: the totals behind the last shard that can be resumed from.
  PlanTotals resume_point();
  /// Adds the next shard, with the totals up to it. What is there already stays: it is the same.
  void add(const ShardWork& work, PlanTotals& totals, bool resumable);
  void complete(const PlanTotals& totals);

 private:
  PlanPiece piece(int64_t index);
  bool has(int64_t index) { return store_.size(plan_key(index)).has_value(); }
  int64_t find_known(int64_t known);

  Store& store_;
  const nlohmann::ordered_json run_file_;
  const std::string run_;  // its checksum
  mutable std::mutex mutex_;
  bool joined_ = false;
  int64_t known_ = 0;
  std::optional<PlanTotals> totals_;
};

}  // namespace espalier::extract
