// SPDX-License-Identifier: Apache-2.0
// Flash attention for the CPU: out = softmax(scale q k^T, masked) v, forward and backward, without
// ever storing a seq_q x seq_k matrix (Dao et al., arXiv:2205.14135).
//
// Tensors are strided views [batch, seq, head, head_dim] with a contiguous head_dim axis: usually
// q, k and v are three views into one [batch, seq, 3 * heads * head_dim] matmul output.
// Query head h reads key/value head h / (heads / kv_heads).
#pragma once

#include <cstdint>

#include "espalier/tensor/dtype.h"

namespace espalier::cpu {

/// Strides of the outer axes in elements.
struct AttentionStrides {
  int64_t batch = 0;
  int64_t head = 0;
  int64_t seq = 0;
};

/// Strides of a contiguous [batch, seq, heads, head_dim] tensor.
constexpr AttentionStrides attention_strides(int64_t seq, int64_t heads, int64_t head_dim) {
  return {.batch = seq * heads * head_dim, .head = head_dim, .seq = heads * head_dim};
}

struct AttentionParams {
  int64_t batch = 1;
  int64_t heads = 1;     // of q, out, dout, dq
  int64_t kv_heads = 1;  // of k, v, dk, dv; divides heads
  int64_t seq_q = 0;
  int64_t seq_k = 0;
  int64_t head_dim = 0;  // 1..256

  DType dtype = DType::f32;       // of q, k, v: f32, bf16 or f16
  DType out_dtype = DType::f32;   // of out and dout
  DType grad_dtype = DType::f32;  // of dq, dk, dv

  float scale = 1.0f;   // of the logits, usually 1 / sqrt(head_dim)
  bool causal = false;  // key j is visible to query i iff j <= i + (seq_k - seq_q)

  AttentionStrides q, k, v, out;
  AttentionStrides dout, dq, dk, dv;  // read by the backward pass only

  const uint8_t* key_mask = nullptr;    // [batch, seq_k], nonzero = visible; null = all
  const int32_t* segments_q = nullptr;  // [batch, seq_q]; a key is visible iff its segment
  const int32_t* segments_k = nullptr;  // [batch, seq_k]  equals the query's; null = no segments

  /// Dropout on the probabilities: element (b, h, i, j) is dropped iff
  /// rng_uniform(rng_key(seed, step, op_id), first + ((b * heads + h) * seq_q + i) * seq_k + j)
  /// < dropout; kept ones are scaled by 1 / (1 - dropout).
  float dropout = 0.0f;
  uint64_t seed = 0;
  uint64_t step = 0;
  uint64_t op_id = 0;
  uint64_t first = 0;
};

/// Checks sizes, dtypes and options; throws `user` or `unsupported`.
void check_attention(const AttentionParams& params);

/// Bytes of scratch for `threads` threads, a multiple of 64. Grows with head_dim and, backward,
/// with seq_k; never with seq_q * seq_k.
int64_t attention_forward_scratch(const AttentionParams& params, int threads);
int64_t attention_backward_scratch(const AttentionParams& params, int threads);

/// Writes out and lse [batch, heads, seq_q], the natural logarithm of the softmax denominator.
/// A query that sees no key gives out = 0 and lse = -inf. `scratch` is 64-byte aligned. The result
/// does not depend on `threads`. Values of k and v at masked keys must be finite.
void attention_forward(const AttentionParams& params, const void* q, const void* k, const void* v,
                       void* out, float* lse, void* scratch, int threads);

/// Writes dq, dk, dv from the forward pass's out and lse and the cotangent dout. Queries that see
/// no key, and keys that no query sees, get zero. Same rules for scratch, threads and masks.
void attention_backward(const AttentionParams& params, const void* q, const void* k, const void* v,
                        const void* out, const float* lse, const void* dout, void* dq, void* dk,
                        void* dv, void* scratch, int threads);

}  // namespace espalier::cpu
