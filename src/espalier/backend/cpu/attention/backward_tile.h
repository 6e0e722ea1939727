// SPDX-License-Identifier: Apache-2.0
// Backward attention of one key/value head. With P = exp(scale q k^T - lse), recomputed by tile:
//   dV = P^T dO     dP = dO V^T     dS = scale * P * (dP - rowsum(dO * O))     dQ = dS K
//   dK = dS^T Q
// (Dao et al., arXiv:2205.14135, algorithm 4). Tiles hold P and dS transposed, [key][query].
// Dropout multiplies P in dV, and dP, by the same factors; rowsum(dO * O) already contains them.
// Included by the instruction-set sources only.
#pragma once

#include "espalier/backend/cpu/attention/tile_parts.h"

namespace espalier::cpu {
namespace {

/// A tile of queries of one head, ready for all its keys.
struct QueryTile {
  int64_t head;          // within the group
  int64_t begin, count;  // queries
  int64_t panels;
  Rows queries, dout;  // padded rows
};

inline HeadView head_of(const HeadView& view, DType dtype, int64_t elements) {
  return {static_cast<const char*>(view.data) + elements * size_of(dtype), view.stride};
}

/// delta[i] = scale * sum over d of out[i][d] * dout[i][d]; zero up to the end of the last vector.
inline void row_products(const HeadView& out, DType dtype, const Rows& dout, int64_t first,
                         int64_t count, int64_t width, float scale, float* delta) {
  with_type(dtype, out.data, [&]<typename T>(const T* p) {
    p += first * out.stride;
    for (int64_t i = 0; i < count; i += kLanes) {
      Vf sums[kLanes] = {};
      for (int e = 0; e < kLanes && i + e < count; ++e) {
        for (int64_t d = 0; d < width; d += kLanes) {
          sums[e] += load_first(p + (i + e) * out.stride + d, width - d) *
                     load(dout.data + (i + e) * dout.stride + d);
        }
      }
      transpose(sums);
      Vf total{};
      for (const Vf& sum : sums) total += sum;
      store(delta + i, total * scale);
    }
  });
}

inline QueryTile prepare_queries(const BackwardTask& t, int64_t head, int64_t begin) {
  const HeadShape& s = t.shape;
  const BackwardScratch& x = t.scratch;
  const int64_t count = min64(s.query_tile, s.seq_q - begin);
  const int64_t panels = (count + kPanel - 1) / kPanel;
  const int64_t panel_size = round_to_lanes(s.head_dim) * kPanel;
  const HeadView q = head_of(t.q, s.dtype, head * t.q_head);
  const HeadView out = head_of(t.out, s.out_dtype, head * t.out_head);
  const HeadView dout = head_of(t.dout, s.out_dtype, head * t.dout_head);
  QueryTile tile{.head = head, .begin = begin, .count = count, .panels = panels};
  tile.queries = padded_rows(q, s.dtype, begin, count, s.head_dim, x.queries);
  tile.dout = padded_rows(dout, s.out_dtype, begin, count, s.head_dim, x.dout);
  for (int64_t p = 0; p < panels; ++p) {
    const int64_t first = begin + p * kPanel;
    const int64_t rows = min64(kPanel, begin + count - first);
    pack_panel(q, s.dtype, first, rows, s.head_dim, s.scale * kLog2E, x.queries_t + p * panel_size);
    pack_panel(dout, s.out_dtype, first, rows, s.head_dim, s.scale, x.dout_t + p * panel_size);
  }
  const float* lse = t.lse + head * s.seq_q + begin;
  for (int64_t i = 0; i < panels * kPanel; ++i) {
    // Queries that see no key, and the lanes after the last query: exp2(logit - inf) = 0.
    x.lse[i] = i < count && lse[i] != -kInfinity ? lse[i] * kLog2E : kInfinity;
  }
  std::memset(x.delta, 0, static_cast<size_t>(panels * kPanel) * sizeof(float));
  row_products(out, s.out_dtype, tile.dout, begin, count, s.head_dim, s.scale, x.delta);
  std::memset(x.dqueries_t, 0, static_cast<size_t>(panels * panel_size) * sizeof(float));
  return tile;
}

/// P and dS of one panel from its logits and dP, in place.
template <bool dropped>
inline void dlogits_panel(const BackwardTask& t, const QueryTile& tile, int64_t panel,
                          int64_t key_begin, PanelRows rows, float* probs, float* dlogits) {
  const HeadShape& s = t.shape;
  const int64_t stride = s.query_tile;
  Vf lse[kPanelVectors], delta[kPanelVectors];
  for (int v = 0; v < kPanelVectors; ++v) {
    lse[v] = load(t.scratch.lse + panel * kPanel + v * kLanes);
    delta[v] = load(t.scratch.delta + panel * kPanel + v * kLanes);
  }
  const uint64_t head_elements = static_cast<uint64_t>(s.seq_q) * static_cast<uint64_t>(s.seq_k);
  const PanelDropout dropout(s, t.first_element + static_cast<uint64_t>(tile.head) * head_elements,
                             tile.begin + panel * kPanel);
  const auto element = [&](int64_t r, int v) {
    float* p = probs + r * stride + v * kLanes;
    float* d = dlogits + r * stride + v * kLanes;
    const Vf prob = exp2(load(p) - lse[v]);
    if constexpr (dropped) {
      const Vf factor = dropout.factor(v, key_begin + r);
      store(d, prob * (load(d) * factor - delta[v]));
      store(p, prob * factor);
    } else {
      store(d, prob * (load(d) - delta[v]));
      store(p, prob);
    }
  };
  for (int64_t r = 0; r < rows.both; ++r) {
    for (int v = 0; v < kPanelVectors; ++v) element(r, v);
  }
  for (int64_t r = rows.both; r < rows.all; ++r) {
    store(probs + r * stride, Vf{});
    store(dlogits + r * stride, Vf{});
    element(r, 1);
  }
}

/// P, dS and the contribution to dQ of one panel; returns the number of keys it sees. The rows
/// after them, as far as a register tile of keys may reach, are zero.
inline int64_t backward_panel(const BackwardTask& t, const QueryTile& tile, int64_t panel,
                              bool some, int64_t key_begin, int64_t keys, const Rows& k,
                              const Rows& v, Prefetch& ahead) {
  const HeadShape& s = t.shape;
  const BackwardScratch& x = t.scratch;
  const int64_t query = tile.begin + panel * kPanel;
  const int64_t query_end = min64(query + kPanel, tile.begin + tile.count);
  const PanelRows rows = panel_rows(s, query, query_end, key_begin, keys);
  float* probs = x.probs + panel * kPanel;
  float* dlogits = x.dlogits + panel * kPanel;
  for (int64_t r = rows.all; r < min64(keys, rows.all + kTileRows<1> - 1); ++r) {
    for (int e = 0; e < kPanelVectors; ++e) {
      store(probs + r * s.query_tile + e * kLanes, Vf{});
      store(dlogits + r * s.query_tile + e * kLanes, Vf{});
    }
  }
  if (rows.all == 0) return 0;
  const int64_t panel_offset = panel * round_to_lanes(s.head_dim) * kPanel;
  panel_products(rows, k, x.queries_t + panel_offset, s.head_dim, probs, s.query_tile, ahead);
  mask_panel(s, some, query, key_begin, rows.all, probs, s.query_tile);
  panel_products(rows, v, x.dout_t + panel_offset, s.head_dim, dlogits, s.query_tile, ahead);
  if (s.dropout_below != 0) {
    dlogits_panel<true>(t, tile, panel, key_begin, rows, probs, dlogits);
  } else {
    dlogits_panel<false>(t, tile, panel, key_begin, rows, probs, dlogits);
  }
  tile_gemm<kPanelVectors, true>(s.head_dim, {.a = k.data,
                                              .lda = k.stride,
                                              .b = dlogits,
                                              .ldb = s.query_tile,
                                              .c = x.dqueries_t + panel_offset,
                                              .ldc = kPanel,
                                              .depth = rows.all,
                                              .accumulate = true,
                                              .ahead = &ahead});
  return rows.all;
}

/// grad[key][d] += sum over queries of tile[key][query] * rows[query][d]. Queries that cannot see
/// the first key of a register tile are left out.
template <int vectors>
inline void key_gradient_columns(const BackwardTask& t, const QueryTile& tile, int64_t key_begin,
                                 int64_t keys, const float* weights, const Rows& rows, int64_t d,
                                 float* grad, Prefetch& ahead) {
  const HeadShape& s = t.shape;
  const int64_t padded = round_to_lanes(s.head_dim);
  for (int64_t r = 0; r < keys;) {
    const int64_t count = tile_rows<vectors>(keys - r);
    const int64_t first_query = key_begin + r - (s.seq_k - s.seq_q) - tile.begin;
    const int64_t skip = s.causal ? max64(0, min64(tile.count, first_query)) : 0;
    tile_gemm_rows<vectors, false>(count, {.a = weights + r * s.query_tile + skip,
                                           .lda = s.query_tile,
                                           .b = rows.data + skip * rows.stride + d,
                                           .ldb = rows.stride,
                                           .c = grad + r * padded + d,
                                           .ldc = padded,
                                           .depth = tile.count - skip,
                                           .accumulate = true,
                                           .ahead = &ahead});
    r += count;
  }
}
[[gnu::noinline]] void key_gradient(const BackwardTask& t, const QueryTile& tile, int64_t key_begin,
                                    int64_t keys, const float* weights, const Rows& rows,
                                    float* grad, Prefetch& ahead) {
  const int64_t padded = round_to_lanes(t.shape.head_dim);
  int64_t d = 0;
  for (; d + kPanel <= padded; d += kPanel) {
    key_gradient_columns<kPanelVectors>(t, tile, key_begin, keys, weights, rows, d, grad, ahead);
  }
  if (d < padded) key_gradient_columns<1>(t, tile, key_begin, keys, weights, rows, d, grad, ahead);
}

inline void backward_queries(const BackwardTask& t, const QueryTile& tile, const Rows& k,
                             const Rows& v, Prefetch& ahead) {
  const HeadShape& s = t.shape;
  const BackwardScratch& x = t.scratch;
  const int64_t padded = round_to_lanes(s.head_dim);
  const int64_t visible_keys = causal_rows(s, tile.begin + tile.count - 1, 0, s.seq_k);
  for (int64_t key = 0; key < visible_keys; key += s.key_tile) {
    const int64_t keys = min64(s.key_tile, visible_keys - key);
    const Visible visible = visibility(s, tile.begin, tile.begin + tile.count, key, key + keys);
    if (visible == Visible::none) continue;
    const Rows tile_k{k.data + key * k.stride, k.stride};
    const Rows tile_v{v.data + key * v.stride, v.stride};
    int64_t rows = 0;
    for (int64_t p = 0; p < tile.panels; ++p) {
      const bool some = visible == Visible::some;
      rows = max64(rows, backward_panel(t, tile, p, some, key, keys, tile_k, tile_v, ahead));
    }
    key_gradient(t, tile, key, rows, x.probs, tile.dout, x.dvalues + key * padded, ahead);
    key_gradient(t, tile, key, rows, x.dlogits, tile.queries, x.dkeys + key * padded, ahead);
  }
  Vf one[kPanelVectors];
  for (Vf& f : one) f = splat(1.0f);
  const HeadOutput dq{static_cast<char*>(t.dq.data) + tile.head * t.dq_head * size_of(s.grad_dtype),
                      t.dq.stride};
  for (int64_t p = 0; p < tile.panels; ++p) {
    const int64_t first = tile.begin + p * kPanel;
    unpack_panel(x.dqueries_t + p * padded * kPanel, one, s.grad_dtype, dq, first,
                 min64(kPanel, tile.begin + tile.count - first), s.head_dim);
  }
}

inline void write_rows(const float* from, const HeadShape& s, const HeadOutput& to) {
  const int64_t padded = round_to_lanes(s.head_dim);
  with_type(s.grad_dtype, to.data, [&]<typename T>(T* p) {
    for (int64_t j = 0; j < s.seq_k; ++j) {
      for (int64_t d = 0; d < s.head_dim; d += kLanes) {
        store_first(p + j * to.stride + d, load(from + j * padded + d), s.head_dim - d);
      }
    }
  });
}

inline void fetch_queries(const BackwardTask& t, int64_t head, int64_t query, Prefetch& ahead) {
  const HeadShape& s = t.shape;
  const int64_t rows = min64(s.query_tile, s.seq_q - query);
  const HeadView q = head_of(t.q, s.dtype, head * t.q_head);
  const HeadView out = head_of(t.out, s.out_dtype, head * t.out_head);
  const HeadView dout = head_of(t.dout, s.out_dtype, head * t.dout_head);
  ahead.add(q.data, q.stride, s.dtype, query, rows, s.head_dim);
  ahead.add(dout.data, dout.stride, s.out_dtype, query, rows, s.head_dim);
  ahead.add(out.data, out.stride, s.out_dtype, query, rows, s.head_dim);
}

/// What to fetch while the tile of queries from `query` is worked on: its outputs, then the next
/// tile; at the end the key outputs and the next task's first tile.
inline void look_ahead(const BackwardTask& t, int64_t head, int64_t query, Prefetch& ahead) {
  const HeadShape& s = t.shape;
  ahead.restart();
  const int64_t rows = min64(s.query_tile, s.seq_q - query);
  const HeadView dq = head_of({t.dq.data, t.dq.stride}, s.grad_dtype, head * t.dq_head);
  ahead.add(dq.data, dq.stride, s.grad_dtype, query, rows, s.head_dim);
  if (query + s.query_tile < s.seq_q) return fetch_queries(t, head, query + s.query_tile, ahead);
  if (head + 1 < t.group) return fetch_queries(t, head + 1, 0, ahead);
  ahead.add(t.dk.data, t.dk.stride, s.grad_dtype, 0, s.seq_k, s.head_dim);
  ahead.add(t.dv.data, t.dv.stride, s.grad_dtype, 0, s.seq_k, s.head_dim);
  if (t.next == nullptr) return;
  fetch_queries(*t.next, 0, 0, ahead);
  ahead.add(t.next->k.data, t.next->k.stride, s.dtype, 0, min64(s.seq_k, s.query_tile), s.head_dim);
  ahead.add(t.next->v.data, t.next->v.stride, s.dtype, 0, min64(s.seq_k, s.query_tile), s.head_dim);
}

void backward_head(const BackwardTask& t) {
  const HeadShape& s = t.shape;
  const BackwardScratch& x = t.scratch;
  const size_t grad_bytes =
      static_cast<size_t>(s.seq_k * round_to_lanes(s.head_dim)) * sizeof(float);
  std::memset(x.dkeys, 0, grad_bytes);
  std::memset(x.dvalues, 0, grad_bytes);
  const Rows k = f32_rows(t.k, s.dtype, 0, s.seq_k, s.head_dim, s.keys_in_place, x.keys);
  const Rows v = f32_rows(t.v, s.dtype, 0, s.seq_k, s.head_dim, s.keys_in_place, x.values);
  Prefetch ahead;
  for (int64_t head = 0; head < t.group; ++head) {
    for (int64_t query = 0; query < s.seq_q; query += s.query_tile) {
      look_ahead(t, head, query, ahead);
      backward_queries(t, prepare_queries(t, head, query), k, v, ahead);
    }
  }
  write_rows(x.dkeys, s, t.dk);
  write_rows(x.dvalues, s, t.dv);
}

}  // namespace
}  // namespace espalier::cpu
