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
  bool needed;  // some factor is not 1
};
inline Rescale softmax_panel(PanelRows rows, float* probs, float* largest, float* total) {
  Rescale rescale{};
  Vf top[kPanelVectors], sum[kPanelVectors];
  for (int v = 0; v < kPanelVectors; ++v) top[v] = load(largest + v * kLanes);
  for (int64_t r = 0; r < rows.both; ++r) {
    for (int v = 0; v < kPanelVectors; ++v) {
      top[v] = max(load(probs + r * kPanel + v * kLanes), top[v]);
    }
  }
  for (int64_t r = rows.both; r < rows.all; ++r) {
    top[1] = max(load(probs + r * kPanel + kLanes), top[1]);
  }
  for (int v = 0; v < kPanelVectors; ++v) {
    const Vf before = load(largest + v * kLanes);
    store(largest + v * kLanes, top[v]);
    // A lane that has seen no key yet keeps exp2(-inf - 0) = 0.
    top[v] = select(top[v] == -kInfinity, Vf{}, top[v]);
    rescale.factor[v] = exp2(before - top[v]);
    sum[v] = load(total + v * kLanes) * rescale.factor[v];
    rescale.needed |= any(rescale.factor[v] != 1.0f);
  }
  const auto exponentiate = [&](int64_t r, int v) {
    float* p = probs + r * kPanel + v * kLanes;
    const Vf e = exp2(load(p) - top[v]);
    sum[v] += e;
    store(p, e);
  };
#pragma GCC unroll 2
  for (int64_t r = 0; r < rows.both; ++r) {
    for (int v = 0; v < kPanelVectors; ++v) exponentiate(r, v);
  }
  for (int64_t r = rows.both; r < rows.all; ++r) {
    store(probs + r * kPanel, Vf{});
    exponentiate(r, 1);
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

/// No query of the panel has seen a key: its outputs are not yet written.
inline bool nothing_seen(const float* total) {
  Vi seen{};
  for (int v = 0; v < kPanelVectors; ++v) seen |= load(total + v * kLanes) != 0.0f;
  return !any(seen);
}

/// One panel of queries against one tile of keys.
inline void forward_panel(const ForwardTask& t, int64_t panel, int64_t key_begin, int64_t keys,
                          const Rows& k, const Rows& v, Prefetch& ahead) {
  const HeadShape& s = t.shape;
  const int64_t query = t.query_begin + panel * kPanel;
  const int64_t query_end = min64(query + kPanel, t.query_end);
  const PanelRows rows = panel_rows(s, query, query_end, key_begin, keys);
  if (rows.all == 0) return;
  const Visible visible = visibility(s, query, query_end, key_begin, key_begin + rows.all);
  if (visible == Visible::none) return;

  const int64_t width = s.head_dim;
  const int64_t panel_size = round_to_lanes(width) * kPanel;
  float* probs = t.scratch.probs;
  float* out = t.scratch.out + panel * panel_size;
  float* total = t.scratch.total + panel * kPanel;
  const bool first = nothing_seen(total);
  panel_products(rows, k, t.scratch.queries + panel * panel_size, width, probs, kPanel, ahead);
  mask_panel(s, visible == Visible::some, query, key_begin, rows.all, probs, kPanel);
  const Rescale rescale = softmax_panel(rows, probs, t.scratch.largest + panel * kPanel, total);
  if (!first && rescale.needed) {
    for (int64_t d = 0; d < width; ++d) {
      for (int x = 0; x < kPanelVectors; ++x) {
        float* p = out + d * kPanel + x * kLanes;
        store(p, load(p) * rescale.factor[x]);
      }
    }
  }
  if (s.dropout_below != 0) drop_panel(t, query, key_begin, rows.all, probs);
  tile_gemm<kPanelVectors, true>(width, {.a = v.data,
                                         .lda = v.stride,
                                         .b = probs,
                                         .ldb = kPanel,
                                         .c = out,
                                         .ldc = kPanel,
                                         .depth = rows.all,
                                         .accumulate = !first,
                                         .ahead = &ahead});
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
  const int64_t panel_size = round_to_lanes(s.head_dim) * kPanel;
  float* out = t.scratch.out + panel * panel_size;
  if (nothing_seen(t.scratch.total + panel * kPanel)) {
    std::memset(out, 0, static_cast<size_t>(panel_size) * sizeof(float));
  }
  unpack_panel(out, factor, s.out_dtype, t.out, query, count, s.head_dim);
}

/// What to fetch while the tile of keys that ends at `key_end` is worked on: the outputs, then the
/// next tile or the next task's first one.
inline void look_ahead(const ForwardTask& t, int64_t key_end, int64_t visible_keys,
                       Prefetch& ahead) {
  const HeadShape& s = t.shape;
  const auto add = [&](const HeadView& view, int64_t first, int64_t rows) {
    ahead.add(view.data, view.stride, s.dtype, first, rows, s.head_dim);
  };
  ahead.restart();
  if (key_end < visible_keys) {
    const int64_t keys = min64(s.key_tile, visible_keys - key_end);
    add(t.k, key_end, keys);
    add(t.v, key_end, keys);
    return;
  }
  ahead.add(t.out.data, t.out.stride, s.out_dtype, t.query_begin, t.query_end - t.query_begin,
            s.head_dim);
  if (t.next == nullptr) return;
  add(t.next->k, 0, min64(s.key_tile, s.seq_k));
  add(t.next->q, t.next->query_begin, t.next->query_end - t.next->query_begin);
  add(t.next->v, 0, min64(s.key_tile, s.seq_k));
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
  const int64_t visible_keys = causal_rows(s, t.query_end - 1, 0, s.seq_k);
  Prefetch ahead;
  for (int64_t key = 0; key < visible_keys; key += s.key_tile) {
    const int64_t keys = min64(s.key_tile, visible_keys - key);
    look_ahead(t, key + keys, visible_keys, ahead);
    const Rows k = f32_rows(t.k, s.dtype, key, keys, s.head_dim, s.keys_in_place, t.scratch.keys);
    const Rows v = f32_rows(t.v, s.dtype, key, keys, s.head_dim, s.keys_in_place, t.scratch.values);
    for (int64_t p = 0; p < panels; ++p) forward_panel(t, p, key, keys, k, v, ahead);
  }
  for (int64_t p = 0; p < panels; ++p) finish_panel(t, p);
}

}  // namespace
}  // namespace espalier::cpu
