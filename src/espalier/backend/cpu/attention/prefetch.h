// SPDX-License-Identifier: Apache-2.0
// Brings rows that are needed soon into the second-level cache, a little with every register tile.
//
// Rows of one head lie a whole model row apart, usually more than a page: hardware prefetchers do
// not follow. Without this, the first touch of q, k, v and the first write of every output row
// stalls, about a fifth of the time when tensors are larger than the caches.
// Included by the instruction-set sources only.
#pragma once

#include "espalier/backend/cpu/attention/simd.h"

namespace espalier::cpu {
namespace {

class Prefetch {
 public:
  /// Forgets what was asked for and not yet done.
  void restart() { at_ = count_ = 0; }

  /// Asks for rows [first, first + rows) of a view.
  void add(const void* data, int64_t stride, DType dtype, int64_t first, int64_t rows,
           int64_t width) {
    if (rows <= 0) return;
    const int64_t size = size_of(dtype);
    regions_[count_++] = {static_cast<const char*>(data) + first * stride * size, stride * size,
                          width * size, rows};
  }

  /// Two rows' worth of requests; called once per register tile.
  ESPALIER_INLINE void step() {
    for (int i = 0; i < 2 && at_ < count_; ++i) {
      Region& r = regions_[at_];
      for (int64_t b = 0; b < r.bytes; b += 64) _mm_prefetch(r.row + b, _MM_HINT_T1);
      r.row += r.stride;
      if (--r.rows == 0) ++at_;
    }
  }

 private:
  struct Region {
    const char* row;
    int64_t stride, bytes, rows;
  };
  static constexpr int kMost = 12;
  Region regions_[kMost];
  int at_ = 0, count_ = 0;
};

}  // namespace
}  // namespace espalier::cpu
