// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/read_order.h"

#include <algorithm>
#include <numeric>
#include <tuple>

#include "espalier/base/error.h"
#include "espalier/base/rng.h"

namespace espalier::extract {
namespace {

/// Rows of one request at most: beyond, a request is as fast as it gets and more of them share the
/// threads better.
constexpr int64_t kMostJoined = 2048;

std::vector<int64_t> counting(int64_t count) {
  std::vector<int64_t> numbers(static_cast<size_t>(count));
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

}  // namespace

std::vector<int64_t> permutation(int64_t count, uint64_t seed, uint64_t stream) {
  const uint64_t key = mix64(mix64(seed) ^ stream);
  std::vector<int64_t> order = counting(count);
  for (int64_t i = count - 1; i > 0; --i) {
    // The high half of a product is uniform below i + 1 up to one part in 2^64 / count.
    const auto draw = static_cast<unsigned __int128>(mix64(key + static_cast<uint64_t>(i)));
    const auto j = static_cast<size_t>((draw * static_cast<uint64_t>(i + 1)) >> 64);
    std::swap(order[static_cast<size_t>(i)], order[j]);
  }
  return order;
}

ReadOrder::ReadOrder(std::span<const ManifestEntry> entries, int64_t block_rows,
                     int64_t window_rows, bool shuffle, uint64_t seed)
    : block_rows_(block_rows),
      blocks_of_window_(std::max<int64_t>(1, window_rows / block_rows)),
      shuffle_(shuffle),
      seed_(seed) {
  for (const ManifestEntry& entry : entries) {
    first_blocks_.push_back(blocks_);
    tokens_.push_back(entry.tokens);
    blocks_ += (entry.tokens + block_rows - 1) / block_rows;
  }
  first_blocks_.push_back(blocks_);
  blocks_of_window_ = std::min(blocks_of_window_, blocks_);
}

int64_t ReadOrder::windows() const { return (blocks_ + blocks_of_window_ - 1) / blocks_of_window_; }

Block ReadOrder::block(int64_t index) const {
  const auto after = std::upper_bound(first_blocks_.begin(), first_blocks_.end(), index);
  const int64_t shard = after - first_blocks_.begin() - 1;
  const int64_t first = (index - first_blocks_[static_cast<size_t>(shard)]) * block_rows_;
  return {shard, first, std::min(block_rows_, tokens_[static_cast<size_t>(shard)] - first)};
}

std::vector<Block> ReadOrder::blocks(int64_t epoch, int64_t window) {
  ESPALIER_ASSERT(window >= 0 && window < windows());
  if (epoch != epoch_) {
    order_ =
        shuffle_ ? permutation(blocks_, seed_, static_cast<uint64_t>(epoch)) : counting(blocks_);
    epoch_ = epoch;
  }
  std::vector<Block> blocks;
  const int64_t begin = window * blocks_of_window_;
  for (int64_t i = begin; i < std::min(begin + blocks_of_window_, blocks_); ++i) {
    blocks.push_back(block(order_[static_cast<size_t>(i)]));
  }
  std::sort(blocks.begin(), blocks.end(), [](const Block& a, const Block& b) {
    return std::tie(a.shard, a.first) < std::tie(b.shard, b.first);
  });
  std::vector<Block> joined;
  for (const Block& block : blocks) {
    const bool next = !joined.empty() && joined.back().shard == block.shard &&
                      joined.back().first + joined.back().rows == block.first &&
                      joined.back().rows + block.rows <= std::max(kMostJoined, block_rows_);
    if (next) {
      joined.back().rows += block.rows;
    } else {
      joined.push_back(block);
    }
  }
  return joined;
}

std::vector<int64_t> ReadOrder::rows(int64_t epoch, int64_t window, int64_t count) const {
  if (!shuffle_) return counting(count);
  const uint64_t stream = mix64(static_cast<uint64_t>(epoch)) + static_cast<uint64_t>(window) + 1;
  return permutation(count, seed_ ^ 0x5851F42D4C957F2Dull, stream);
}

}  // namespace espalier::extract
