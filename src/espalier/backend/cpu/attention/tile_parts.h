// SPDX-License-Identifier: Apache-2.0
// Pieces that the forward and the backward tiles share: packing, visibility, dropout.
//
// Logits are kept transposed, [key][query], with queries in the lanes: softmax statistics are then
// vectors, reductions over keys need no horizontal steps, and the tile of probabilities is at once
// the right operand for the next product. Included by the instruction-set sources only.
#pragma once

#include "espalier/backend/cpu/attention/tile_gemm.h"

namespace espalier::cpu {
namespace {

constexpr float kLog2E = 1.44269504088896341f;
constexpr float kLn2 = 0.69314718055994531f;

ESPALIER_INLINE int64_t round_to_lanes(int64_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

/// Rows [first, first + count) of a view, as f32: in place for f32, else converted into `copy`
/// [count][head_dim].
struct Rows {
  const float* data;
  int64_t stride;
};
template <typename T>
void convert_rows(const T* from, int64_t stride, int64_t count, int64_t width, float* to,
                  int64_t to_stride) {
  for (int64_t r = 0; r < count; ++r) {
    const T* row = from + r * stride;
    float* out = to + r * to_stride;
    int64_t d = 0;
    for (; d + kLanes <= width; d += kLanes) store(out + d, load(row + d));
    if (d < width) store_first(out + d, load_first(row + d, width - d), to_stride - d);
  }
}
inline Rows f32_rows(const HeadView& view, DType dtype, int64_t first, int64_t count, int64_t width,
                     bool in_place, float* copy) {
  Rows rows{copy, width};
  with_type(dtype, view.data, [&]<typename T>(const T* p) {
    p += first * view.stride;
    if constexpr (sizeof(T) == sizeof(float)) {
      if (in_place) {
        rows = {p, view.stride};
        return;
      }
    }
    convert_rows(p, view.stride, count, width, copy, width);
  });
  return rows;
}
/// As f32_rows, but always copied, and padded with zeros to a whole number of vectors. As operands
/// with d in the lanes, rows at the stride of a whole model row would share a few cache sets.
inline Rows padded_rows(const HeadView& view, DType dtype, int64_t first, int64_t count,
                        int64_t width, float* copy) {
  const int64_t padded = round_to_lanes(width);
  with_type(dtype, view.data, [&]<typename T>(const T* p) {
    convert_rows(p + first * view.stride, view.stride, count, width, copy, padded);
  });
  return {copy, padded};
}

/// to[d][lane] = factor * row `lane` of the view, for `count` <= kPanel rows from `first`; zero in
/// the lanes after them and for d in [width, round_to_lanes(width)).
inline void pack_panel(const HeadView& view, DType dtype, int64_t first, int64_t count,
                       int64_t width, float factor, float* to) {
  with_type(dtype, view.data, [&]<typename T>(const T* p) {
    p += first * view.stride;
    for (int v = 0; v < kPanelVectors; ++v) {
      for (int64_t d = 0; d < width; d += kLanes) {
        Vf block[kLanes];
        const T* from = p + v * kLanes * view.stride + d;
        if (count >= (v + 1) * kLanes && d + kLanes <= width) {
#pragma GCC unroll 16
          for (int e = 0; e < kLanes; ++e) block[e] = load(from + e * view.stride) * factor;
        } else {
          for (int e = 0; e < kLanes; ++e) {
            const bool used = v * kLanes + e < count;
            block[e] = used ? load_first(from + e * view.stride, width - d) * factor : Vf{};
          }
        }
        transpose(block);
#pragma GCC unroll 16
        for (int e = 0; e < kLanes; ++e) store(to + (d + e) * kPanel + v * kLanes, block[e]);
      }
    }
  });
}

/// The reverse: row `lane` of the view = from[.][lane] * factor[lane].
inline void unpack_panel(const float* from, const Vf (&factor)[kPanelVectors], DType dtype,
                         const HeadOutput& view, int64_t first, int64_t count, int64_t width) {
  with_type(dtype, view.data, [&]<typename T>(T* p) {
    p += first * view.stride;
    for (int v = 0; v < kPanelVectors; ++v) {
      for (int64_t d = 0; d < width; d += kLanes) {
        Vf block[kLanes];
#pragma GCC unroll 16
        for (int e = 0; e < kLanes; ++e) {
          block[e] = load(from + (d + e) * kPanel + v * kLanes) * factor[v];
        }
        transpose(block);
        T* to = p + v * kLanes * view.stride + d;
        if (count >= (v + 1) * kLanes && d + kLanes <= width) {
#pragma GCC unroll 16
          for (int e = 0; e < kLanes; ++e) store(to + e * view.stride, block[e]);
        } else {
          for (int e = 0; e < kLanes && v * kLanes + e < count; ++e) {
            store_first(to + e * view.stride, block[e], width - d);
          }
        }
      }
    }
  });
}

/// Keys of [key_begin, key_begin + keys) that query `query` may see under causality: the first n.
ESPALIER_INLINE int64_t causal_rows(const HeadShape& s, int64_t query, int64_t key_begin,
                                    int64_t keys) {
  if (!s.causal) return keys;
  return max64(0, min64(keys, query + (s.seq_k - s.seq_q) + 1 - key_begin));
}

/// Keys of a tile that a panel of queries sees under causality: the first `all`, but only the first
/// `both` matter to the panel's first vector. On the diagonal that saves a quarter of the work.
struct PanelRows {
  int64_t both, all;
};
ESPALIER_INLINE PanelRows panel_rows(const HeadShape& s, int64_t query, int64_t query_end,
                                     int64_t key_begin, int64_t keys) {
  static_assert(kPanelVectors == 2);
  const int64_t all = causal_rows(s, query_end - 1, key_begin, keys);
  return {min64(all, causal_rows(s, query + kLanes - 1, key_begin, keys)), all};
}

/// c[row][lane] = sum over d of a[row][d] * b[d][lane]; leaves out what `rows` allows.
inline void panel_products(PanelRows rows, const Rows& a, const float* b, int64_t depth, float* c,
                           int64_t ldc, Prefetch& ahead) {
  TileGemm g{.a = a.data,
             .lda = a.stride,
             .b = b,
             .ldb = kPanel,
             .c = c,
             .ldc = ldc,
             .depth = depth,
             .accumulate = false,
             .ahead = &ahead};
  tile_gemm<kPanelVectors, false>(rows.both, g);
  g.a += rows.both * a.stride;
  g.b += kLanes;
  g.c += rows.both * ldc + kLanes;
  tile_gemm<1, false>(rows.all - rows.both, g);
}

struct Range {
  int32_t low, high;
};
inline Range range_of(const int32_t* values, int64_t begin, int64_t end) {
  Range r{values[begin], values[begin]};
  for (int64_t i = begin + 1; i < end; ++i) {
    r.low = values[i] < r.low ? values[i] : r.low;
    r.high = values[i] > r.high ? values[i] : r.high;
  }
  return r;
}

/// What the key mask and the segments leave of the pairs (queries x keys).
enum class Visible { none, some, all };
inline Visible visibility(const HeadShape& s, int64_t query_begin, int64_t query_end,
                          int64_t key_begin, int64_t key_end) {
  Visible visible = Visible::all;
  if (s.key_mask != nullptr) {
    int64_t seen = 0;
    for (int64_t j = key_begin; j < key_end; ++j) seen += s.key_mask[j] != 0;
    if (seen == 0) return Visible::none;
    if (seen < key_end - key_begin) visible = Visible::some;
  }
  if (s.segments_q != nullptr) {
    const Range q = range_of(s.segments_q, query_begin, query_end);
    const Range k = range_of(s.segments_k, key_begin, key_end);
    if (q.high < k.low || k.high < q.low) return Visible::none;
    if (q.low != q.high || k.low != k.high || q.low != k.low) visible = Visible::some;
  }
  return visible;
}

/// Sets the logits [rows][stride] of one panel to -inf where the query may not see the key.
inline void mask_panel(const HeadShape& s, bool some, int64_t query, int64_t key_begin,
                       int64_t rows, float* logits, int64_t stride) {
  const Vf hidden = splat(-kInfinity);
  if (s.causal) {
    // Lane l of the panel sees the rows up to `last` + l.
    const int64_t last = query + (s.seq_k - s.seq_q) - key_begin;
    for (int64_t r = max64(0, last + 1); r < rows; ++r) {
      for (int v = 0; v < kPanelVectors; ++v) {
        float* p = logits + r * stride + v * kLanes;
        const Vi lane = lane_index() + v * kLanes;
        store(p, select(lane < static_cast<int32_t>(r - last), hidden, load(p)));
      }
    }
  }
  if (!some) return;
  Vi segments[kPanelVectors] = {};
  if (s.segments_q != nullptr) {
    for (int64_t l = 0; l < min64(kPanel, s.seq_q - query); ++l) {
      segments[l / kLanes][l % kLanes] = s.segments_q[query + l];
    }
  }
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t key = key_begin + r;
    const bool hide = s.key_mask != nullptr && s.key_mask[key] == 0;
    for (int v = 0; v < kPanelVectors; ++v) {
      float* p = logits + r * stride + v * kLanes;
      if (hide) {
        store(p, hidden);
      } else if (s.segments_k != nullptr) {
        store(p, select(segments[v] == s.segments_k[key], load(p), hidden));
      }
    }
  }
}

ESPALIER_INLINE Vu mix_lanes(Vu x) {  // mix32 of base/rng.h
  x ^= x >> 16;
  x *= 0x7FEB352Du;
  x ^= x >> 15;
  x *= 0x846CA68Bu;
  return x ^ (x >> 16);
}

/// Draws the dropout of one panel: rng_bits of base/rng.h in every lane.
class PanelDropout {
 public:
  /// Lane l of vector v counts from element first_element + (query + v * kLanes + l) * seq_k.
  PanelDropout(const HeadShape& s, uint64_t first_element, int64_t query)
      : key_(s.rng), below_(s.dropout_below), keep_scale_(s.keep_scale) {
    for (int l = 0; l < kPanel; ++l) {
      const uint64_t element = first_element + static_cast<uint64_t>((query + l) * s.seq_k);
      low_[l / kLanes][l % kLanes] = static_cast<uint32_t>(element);
      high_[l / kLanes][l % kLanes] = key_.k1 + static_cast<uint32_t>(element >> 32) * kHighFactor;
    }
  }
  /// keep_scale where key `key` is kept for the queries of vector v, 0 where it is dropped.
  ESPALIER_INLINE Vf factor(int v, int64_t key) const {
    const Vu low = low_[v] + static_cast<uint32_t>(key);
    const Vu carry = reinterpret_cast<Vu>(low < low_[v]) & kHighFactor;
    const Vu bits = mix_lanes(mix_lanes(low ^ key_.k0) + high_[v] + carry);
    const Vi drop = reinterpret_cast<Vi>(bits >> 8) < below_;
    return select(drop, Vf{}, splat(keep_scale_));
  }

 private:
  static constexpr uint32_t kHighFactor = 0x9E3779B9u;
  RngKey key_;
  int32_t below_;
  float keep_scale_;
  Vu low_[kPanelVectors];
  Vu high_[kPanelVectors];
};

}  // namespace
}  // namespace espalier::cpu
