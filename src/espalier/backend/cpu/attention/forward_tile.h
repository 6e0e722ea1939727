// SPDX-License-Identifier: Apache-2.0
// Forward attention of one block of queries: online softmax over tiles of keys (Milakov and
// Gimelshein, arXiv:1805.02867), in base 2. Included by the instruction-set sources only.
#pragma once

#include "espalier/backend/cpu/attention/tile_parts.h"

namespace espalier::cpu {
namespace {

/// Turns the logits [rows][kPanel] into exp2(logit - largest), after raising `largest` to this
/// tile's maximum; adds to `total`. Returns the factor that brings earlier outputs to the new
/// scale.
struct Rescale {
  Vf factor[kPanelVectors];
  bool needed;  // some lane has earlier outputs and a factor that is not 1
};
inline Rescale softmax_panel(int64_t rows, float* probs, float* largest, float* total) {
  Rescale rescale{};
  Vf top[kPanelVectors], sum[kPanelVectors];
  for (int v = 0; v < kPanelVectors; ++v) top[v] = load(largest + v * kLanes);
  for (int64_t r = 0; r < rows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kPanelVectors; ++v)
      top[v] = max(load(probs + r * kPanel + v * kLanes), top[v]);
  }
  for (int v = 0; v < kPanelVectors; ++v) {
    const Vf before = load(largest + v * kLanes);
    store(largest + v * kLanes, top[v]);
    // A lane that has seen no key yet keeps exp2(-inf - 0) = 0.
    top[v] = select(top[v] == -kInfinity, Vf{}, top[v]);
    rescale.factor[v] = exp2(before - top[v]);
    const Vf sum_before = load(total + v * kLanes);
    sum[v] = sum_before * rescale.factor[v];
    rescale.needed |= any(sum[v] != sum_before);
  }
#pragma GCC unroll 2
  for (int64_t r = 0; r < rows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kPanelVectors; ++v) {
      float* p = probs + r * kPanel + v * kLanes;
      const Vf e = exp2(load(p) - top[v]);
      sum[v] += e;
      store(p, e);
    }
  }
  for (int v = 0; v < kPanelVectors; ++v) store(total + v * kLanes, sum[v]);
  return rescale;
}

inline void drop_panel(const ForwardTask& t, int64_t query, int64_t key_begin, int64_t rows,
                       float* probs) {
  const PanelDropout dropout(t.shape, t.first_element, query);
  for (int64_t r = 0; r < rows; ++r) {
    for (int v = 0; v < kPanelVectors; ++v) {
      float* p = probs + r * kPanel + v * kLanes;
      store(p, load(p) * dropout.factor(v, key_begin + r));
    }
  }
}

/// One panel of queries against one tile of keys.
inline void forward_panel(const ForwardTask& t, int64_t panel, int64_t key_begin, int64_t keys,
                          const Rows& k, const Rows& v) {
  const HeadShape& s = t.shape;
  const int64_t query = t.query_begin + panel * kPanel;
  const int64_t query_end = min64(query + kPanel, t.query_end);
  const int64_t rows = causal_rows(s, query_end - 1, key_begin, keys);
  if (rows == 0) return;
  const Visible visible = visibility(s, query, query_end, key_begin, key_begin + rows);
  if (visible == Visible::none) return;

  const int64_t width = s.head_dim;
  const int64_t panel_size = round_to_lanes(width) * kPanel;
  float* probs = t.scratch.probs;
  float* out = t.scratch.out + panel * panel_size;
  tile_gemm<kPanelVectors, false>(rows, {.a = k.data,
                                         .lda = k.stride,
                                         .b = t.scratch.queries + panel * panel_size,
                                         .ldb = kPanel,
                                         .c = probs,
                                         .ldc = kPanel,
                                         .depth = width,
                                         .accumulate = false});
  mask_panel(s, visible == Visible::some, query, key_begin, rows, probs, kPanel);
  const Rescale rescale = softmax_panel(rows, probs, t.scratch.largest + panel * kPanel,
                                        t.scratch.total + panel * kPanel);
  if (rescale.needed) {
    for (int64_t d = 0; d < width; ++d) {
      for (int x = 0; x < kPanelVectors; ++x) {
        float* p = out + d * kPanel + x * kLanes;
        store(p, load(p) * rescale.factor[x]);
      }
    }
  }
  if (s.dropout_below != 0) drop_panel(t, query, key_begin, rows, probs);
  tile_gemm<kPanelVectors, true>(width, {.a = v.data,
                                         .lda = v.stride,
                                         .b = probs,
                                         .ldb = kPanel,
                                         .c = out,
                                         .ldc = kPanel,
                                         .depth = rows,
                                         .accumulate = true});
}

/// Divides by the softmax denominators and writes out and lse.
inline void finish_panel(const ForwardTask& t, int64_t panel) {
  const HeadShape& s = t.shape;
  const int64_t query = t.query_begin + panel * kPanel;
  const int64_t count = min64(kPanel, t.query_end - query);
  Vf factor[kPanelVectors];
  for (int v = 0; v < kPanelVectors; ++v) {
    const Vf total = load(t.scratch.total + panel * kPanel + v * kLanes);
    const Vf largest = load(t.scratch.largest + panel * kPanel + v * kLanes);
    const Vi blind = total == 0.0f;
    factor[v] = select(blind, Vf{}, 1.0f / total);
    const Vf lse = select(blind, splat(-kInfinity), largest * kLn2 + log(total));
    if (count > v * kLanes) store_first(t.lse + query + v * kLanes, lse, count - v * kLanes);
  }
  unpack_panel(t.scratch.out + panel * round_to_lanes(s.head_dim) * kPanel, factor, s.out_dtype,
               t.out, query, count, s.head_dim);
}

void forward_block(const ForwardTask& t) {
  const HeadShape& s = t.shape;
  const int64_t panels = (t.query_end - t.query_begin + kPanel - 1) / kPanel;
  const int64_t panel_size = round_to_lanes(s.head_dim) * kPanel;
  for (int64_t p = 0; p < panels; ++p) {
    const int64_t query = t.query_begin + p * kPanel;
    pack_panel(t.q, s.dtype, query, min64(kPanel, t.query_end - query), s.head_dim,
               s.scale * kLog2E, t.scratch.queries + p * panel_size);
  }
  for (int64_t i = 0; i < panels * kPanel; ++i) {
    t.scratch.largest[i] = -kInfinity;
    t.scratch.total[i] = 0.0f;
  }
  std::memset(t.scratch.out, 0, static_cast<size_t>(panels * panel_size) * sizeof(float));

  const int64_t visible_keys = causal_rows(s, t.query_end - 1, 0, s.seq_k);
  for (int64_t key = 0; key < visible_keys; key += s.key_tile) {
    const int64_t keys = min64(s.key_tile, visible_keys - key);
    const Rows k = f32_rows(t.k, s.dtype, key, keys, s.head_dim, t.scratch.keys);
    const Rows v = f32_rows(t.v, s.dtype, key, keys, s.head_dim, t.scratch.values);
    for (int64_t p = 0; p < panels; ++p) forward_panel(t, p, key, keys, k, v);
  }
  for (int64_t p = 0; p < panels; ++p) finish_panel(t, p);
}

}  // namespace
}  // namespace espalier::cpu
