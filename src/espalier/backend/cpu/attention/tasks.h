// SPDX-License-Identifier: Apache-2.0
// What the driver hands to the tile code of one instruction set: plain pointers and sizes.
#pragma once

#include <cstdint>

#include "espalier/base/rng.h"
#include "espalier/tensor/dtype.h"

namespace espalier::cpu {

/// A matrix [seq, head_dim] with contiguous rows.
struct HeadView {
  const void* data;
  int64_t stride;  // elements from one row to the next
};
struct HeadOutput {
  void* data;
  int64_t stride;
};

/// What forward and backward share: sizes, masks and tiles.
struct HeadShape {
  int64_t seq_q, seq_k, head_dim;
  DType dtype, out_dtype, grad_dtype;
  bool keys_in_place;  // f32 keys and values are read where they lie, not copied
  float scale;
  bool causal;
  int64_t query_tile;         // queries of one tile, a multiple of the panel
  int64_t key_tile;           // keys of one tile
  const uint8_t* key_mask;    // [seq_k] of this batch row, or null
  const int32_t* segments_q;  // [seq_q] of this batch row, or null
  const int32_t* segments_k;  // [seq_k] of this batch row, or null
  uint32_t dropout_below;     // dropped iff rng_bits >> 8 < dropout_below; 0 = no dropout
  float keep_scale;           // 1 / (1 - dropout)
  RngKey rng;
};

/// Buffers of one thread, 64-byte aligned. `panel` is the width of a register tile in queries; lane
/// l of panel p belongs to query q0 + p * panel + l. d counts head_dim rounded up to a vector.
struct ForwardScratch {
  float* queries;        // [panels][d][panel]: scaled queries, transposed
  float* out;            // [panels][d][panel]: unnormalized outputs, transposed
  float* probs;          // [key_tile][panel]
  float* largest;        // [panels][panel]
  float* total;          // [panels][panel]
  float *keys, *values;  // [key_tile][head_dim]: f32 copies of 16-bit tiles
};

/// One block of at most query_tile queries of one head.
struct ForwardTask {
  HeadShape shape;
  HeadView q, k, v;
  HeadOutput out;
  float* lse;              // [seq_q] of this head
  uint64_t first_element;  // dropout index of (query 0, key 0)
  int64_t query_begin, query_end;
  ForwardScratch scratch;
  const ForwardTask* next;  // what this thread will probably do next, or null; to prefetch
};

struct BackwardScratch {
  float* queries_t;        // [panels][d][panel]: q scaled for base 2 logits, transposed
  float* dout_t;           // [panels][d][panel]: dout times scale, transposed
  float* dqueries_t;       // [panels][d][panel]
  float *queries, *dout;   // [query_tile][d]: rows padded with zeros
  float* probs;            // [key_tile][query_tile]
  float* dlogits;          // [key_tile][query_tile]
  float *lse, *delta;      // [query_tile]: base 2; times scale
  float *keys, *values;    // [seq_k][head_dim]: f32 copies of 16-bit keys and values
  float *dkeys, *dvalues;  // [seq_k][d]
};

/// One key/value head with all query heads that read it.
struct BackwardTask {
  HeadShape shape;
  HeadView k, v;
  HeadOutput dk, dv;
  int64_t group;          // query heads of this key/value head
  HeadView q, out, dout;  // of the first of them
  HeadOutput dq;
  int64_t q_head, out_head, dout_head, dq_head;  // elements from one head to the next
  const float* lse;                              // [group][seq_q]
  uint64_t first_element;  // dropout index of (query 0, key 0) of the first head
  BackwardScratch scratch;
  const BackwardTask* next;  // as in ForwardTask
};

/// The tile code of one instruction set.
struct AttentionKernels {
  int lanes;  // floats of one vector
  int panel;  // queries of one register tile
  void (*forward)(const ForwardTask&);
  void (*backward)(const BackwardTask&);
};

extern const AttentionKernels kAttentionAvx2;
extern const AttentionKernels kAttentionAvx512;

}  // namespace espalier::cpu
