// SPDX-License-Identifier: Apache-2.0
// In which order a reader takes blocks and rows: functions of a seed alone.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "espalier/extract/manifest.h"

namespace espalier::extract {

/// Neighbouring rows of a shard.
struct Block {
  int64_t shard = 0, first = 0, rows = 0;
  friend bool operator==(const Block&, const Block&) = default;
};

/// A random permutation of 0, ..., count - 1 (Fisher and Yates), drawn from (seed, stream).
std::vector<int64_t> permutation(int64_t count, uint64_t seed, uint64_t stream);

class ReadOrder {
 public:
  ReadOrder(std::span<const ManifestEntry> entries, int64_t block_rows, int64_t window_rows,
            bool shuffle, uint64_t seed);

  int64_t windows() const;
  int64_t most_rows() const { return blocks_of_window_ * block_rows_; }
  /// The blocks of a window in the order in which they lie on the disk, neighbours joined.
  std::vector<Block> blocks(int64_t epoch, int64_t window);
  /// The order in which `count` rows of a window are handed out.
  std::vector<int64_t> rows(int64_t epoch, int64_t window, int64_t count) const;

 private:
  Block block(int64_t index) const;
  int64_t block_rows_, blocks_of_window_, blocks_ = 0;
  bool shuffle_;
  uint64_t seed_;
  std::vector<int64_t> tokens_;        // by shard
  std::vector<int64_t> first_blocks_;  // by shard, and the end
  int64_t epoch_ = -1;                 // that order_ is of
  std::vector<int64_t> order_;
};

}  // namespace espalier::extract
