// SPDX-License-Identifier: Apache-2.0
// One thread's current piece of a product, open to the other threads of its team: whoever has
// nothing left to do takes columns of it. So no thread waits longer than one column panel takes.
#pragma once

#include <atomic>
#include <cstdint>

namespace espalier::cpu {

/// Rows [m0, m1) of A, packed, for one block of k. `a` is the owner's buffer.
struct BlockOfRows {
  const float* a = nullptr;
  float* sums = nullptr;  // where staged sums are kept
  int64_t m0 = 0;
  int64_t m1 = 0;
  int64_t kb = 0;
};

class alignas(64) SharedBlock {
 public:
  /// Owner only, while nothing is in progress: offers columns [0, columns) of `block`.
  void open(const BlockOfRows& block, int64_t columns) {
    a_.store(block.a, std::memory_order_relaxed);
    sums_.store(block.sums, std::memory_order_relaxed);
    m0_.store(block.m0, std::memory_order_relaxed);
    m1_.store(block.m1, std::memory_order_relaxed);
    kb_.store(block.kb, std::memory_order_relaxed);
    unfinished_.store(columns, std::memory_order_relaxed);
    const uint64_t turn = ticket_.load(std::memory_order_relaxed) >> 32;
    ticket_.store((turn + 1) << 32 | static_cast<uint64_t>(columns), std::memory_order_release);
  }

  /// Takes one column; false where none is left. `*remaining` counts the columns from it to the
  /// last. What was read is of one turn: the ticket holds the turn, and it can only be replaced
  /// when all of its columns are finished.
  bool take(BlockOfRows* block, int64_t* remaining) {
    uint64_t ticket = ticket_.load(std::memory_order_acquire);
    while ((ticket & kColumns) != 0) {
      block->a = a_.load(std::memory_order_relaxed);
      block->sums = sums_.load(std::memory_order_relaxed);
      block->m0 = m0_.load(std::memory_order_relaxed);
      block->m1 = m1_.load(std::memory_order_relaxed);
      block->kb = kb_.load(std::memory_order_relaxed);
      if (ticket_.compare_exchange_weak(ticket, ticket - 1, std::memory_order_acq_rel,
                                        std::memory_order_acquire)) {
        *remaining = static_cast<int64_t>(ticket & kColumns);
        return true;
      }
    }
    return false;
  }

  void finish_column() { unfinished_.fetch_sub(1, std::memory_order_release); }
  bool finished() const { return unfinished_.load(std::memory_order_acquire) == 0; }

 private:
  static constexpr uint64_t kColumns = 0xFFFFFFFF;

  std::atomic<uint64_t> ticket_{0};  // turn << 32 | columns nobody has taken
  std::atomic<int64_t> unfinished_{0};
  std::atomic<const float*> a_{nullptr};
  std::atomic<float*> sums_{nullptr};
  std::atomic<int64_t> m0_{0};
  std::atomic<int64_t> m1_{0};
  std::atomic<int64_t> kb_{0};
};

}  // namespace espalier::cpu
