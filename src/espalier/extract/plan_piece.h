// SPDX-License-Identifier: Apache-2.0
// The plan of a run as objects in its store: one for each shard, and a summary at the end.
//
//   plan/00000012.safetensors   what shard 12 is made of: samples with their tokens, and batches
//   plan.json                   totals; there when the plan is complete
//
// Each is tied to one run.json and has a checksum. Tensors of a shard's object:
//
//   token_ids        [tokens] i32
//   offsets          [samples + 1] i64    where each sample's tokens begin
//   first_position   [samples] i64        of its first token in the whole sample
//   placements       [samples, 3] i32     batch, row, column
//   batches          [batches, 2] i32     rows, tokens of a row
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "espalier/extract/run_plan.h"

namespace espalier::extract {

/// "plan/00000012.safetensors"
std::string plan_key(int64_t shard);
inline constexpr const char* kPlanSummaryKey = "plan.json";

/// A plan up to some shard, and where its dataset is read on from.
struct PlanTotals {
  int64_t shards = 0, samples = 0, tokens = 0;
  int64_t computed_tokens = 0;                             // with padding
  std::map<std::pair<int64_t, int64_t>, int64_t> batches;  // by rows and tokens of a row
  SourcePosition position;
  LengthCounts lengths;
  /// SHA-256 over the checksums of all shards' objects: this one's and the last chain's.
  std::string chain;

  void add(const ShardWork& work);
};

/// The totals as one line of JSON.
std::string to_json(const PlanTotals& totals, std::string_view run);
/// Throws `data` for another text, and for totals of another run.
PlanTotals parse_plan_totals(std::string_view json, std::string_view run, std::string_view label);

struct PlanPiece {
  ShardWork work;
  /// Where planning can go on behind this shard; not behind every shard.
  std::optional<PlanTotals> totals;
};

/// The object of a shard of the run whose run.json has the checksum `run`. Sets the chain of
/// `totals`, which end with this shard, and stores them when `resumable`.
std::string write_plan_piece(const ShardWork& work, std::string_view run, PlanTotals& totals,
                             bool resumable);
/// Throws `data` for bytes that are damaged or of another run.
PlanPiece read_plan_piece(std::span<std::byte> bytes, std::string_view run, std::string_view label);

}  // namespace espalier::extract
