// SPDX-License-Identifier: Apache-2.0
// Which tokens go where: samples of any length in batches of few fixed shapes.
//
//   pad      a row for each sample, rows as long as the longest allowed
//   bucket   a row for each sample, rows of a few lengths: the longest allowed, its half, ...
//   pack     several samples a row, told apart by segment numbers, positions from 0 in each
//
// The last batch of a length has as many rows as the others, or their half, quarter, ... where
// these suffice.
//
// A plan is a function of the lengths alone.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace espalier::extract {

enum class Batching : uint8_t { pad, bucket, pack };

/// "pad", "bucket" or "pack"; throws `user` for another.
Batching parse_batching(std::string_view text);
std::string_view name(Batching batching);

struct BatchOptions {
  Batching batching = Batching::pack;
  int64_t rows = 4;   // of a full batch
  int64_t seq = 512;  // the longest row, and sample
  /// Rows of `bucket` are no shorter than this, and multiples of it where seq allows.
  int64_t shortest = 64;
};

/// Sample `sample` stands at columns [column, column + its length) of a row.
struct Placement {
  int64_t sample, row, column;
  friend bool operator==(const Placement&, const Placement&) = default;
};

/// rows x seq tokens; rows nobody stands in are padding.
struct Batch {
  int64_t rows = 0, seq = 0;
  std::vector<Placement> placements;  // by row, then column
};

/// Places each sample once. Lengths are 1 to options.seq; throws `internal` for others, `user` for
/// sizes that are not positive.
std::vector<Batch> plan_batches(std::span<const int64_t> lengths, const BatchOptions& options);

/// Tokens of samples over tokens computed, 0 to 1.
double useful_share(std::span<const int64_t> lengths, std::span<const Batch> batches);

}  // namespace espalier::extract
