// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/stored_plan.h"

#include <algorithm>

#include "espalier/base/error.h"
#include "espalier/extract/run_file.h"
#include "espalier/io/sha256.h"

namespace espalier::extract {
namespace {

constexpr int64_t kSummaryLimit = int64_t{1} << 20;
constexpr int64_t kPieceLimit = int64_t{1} << 31;

}  // namespace

std::optional<PlanTotals> stored_totals(Store& store, std::string_view run) {
  const std::optional<std::string> text = store.get(kPlanSummaryKey, kSummaryLimit);
  if (!text) return std::nullopt;
  return parse_plan_totals(*text, run, store.where(kPlanSummaryKey));
}

StoredPlan::StoredPlan(Store& store, nlohmann::ordered_json run)
    : store_(store), run_file_(std::move(run)), run_(io::sha256_hex(run_file_text(run_file_))) {}

bool StoredPlan::joined() {
  const std::lock_guard lock(mutex_);
  return joined_ = joined_ || compare_run(store_, run_file_);
}

void StoredPlan::begin() {
  claim_run(store_, run_file_);
  const std::lock_guard lock(mutex_);
  joined_ = true;
}

std::optional<PlanTotals> StoredPlan::totals() {
  if (!joined()) return std::nullopt;
  const std::lock_guard lock(mutex_);
  if (!totals_) {
    totals_ = stored_totals(store_, run_);
    if (totals_) known_ = totals_->shards;
  }
  return totals_;
}

std::optional<int64_t> StoredPlan::total() {
  const std::optional<PlanTotals> all = totals();
  return all ? std::optional(all->shards) : std::nullopt;
}

int64_t StoredPlan::known() {
  if (const std::optional<int64_t> all = total()) return *all;
  if (!joined()) return 0;
  const std::lock_guard lock(mutex_);
  return known_ = find_known(known_);
}

int64_t StoredPlan::known_so_far() const {
  const std::lock_guard lock(mutex_);
  return known_;
}

std::optional<PlanTotals> StoredPlan::totals_so_far() const {
  const std::lock_guard lock(mutex_);
  return totals_;
}

/// Shards are added in order, so the first missing one is searched by doubling steps.
int64_t StoredPlan::find_known(int64_t known) {
  int64_t step = 1;
  while (has(known + step - 1)) {
    known += step;
    step *= 2;
  }
  for (step /= 2; step > 0; step /= 2) {
    if (has(known + step - 1)) known += step;
  }
  return known;
}

PlanPiece StoredPlan::piece(int64_t index) {
  const std::string key = plan_key(index), where = store_.where(key);
  std::optional<std::string> bytes = store_.get(key, kPieceLimit);
  ESPALIER_CHECK(bytes.has_value(), ErrorKind::data, "plan",
                 "{} is missing; remove plan.json: what is missing is made again", where);
  PlanPiece piece = read_plan_piece(std::as_writable_bytes(std::span(*bytes)), run_, where);
  ESPALIER_CHECK(piece.work.index == index, ErrorKind::data, "plan", "{} holds shard {}", where,
                 piece.work.index);
  return piece;
}

ShardWork StoredPlan::load(int64_t index) { return piece(index).work; }

PlanTotals StoredPlan::resume_point() {
  for (int64_t index = known() - 1; index >= 0; --index) {
    if (std::optional<PlanTotals> totals = piece(index).totals) return std::move(*totals);
  }
  return {};
}

void StoredPlan::add(const ShardWork& work, PlanTotals& totals, bool resumable) {
  store_.create(plan_key(work.index), write_plan_piece(work, run_, totals, resumable));
  const std::lock_guard lock(mutex_);
  known_ = std::max(known_, work.index + 1);
}

void StoredPlan::complete(const PlanTotals& totals) {
  store_.create(kPlanSummaryKey, to_json(totals, run_));
}

}  // namespace espalier::extract
