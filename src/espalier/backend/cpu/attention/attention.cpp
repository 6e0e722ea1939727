// SPDX-License-Identifier: Apache-2.0
#include "espalier/backend/cpu/attention/attention.h"

#include <cstdint>

#include "espalier/backend/cpu/attention/engine.h"
#include "espalier/base/error.h"

namespace espalier::cpu {
namespace {

void check_dtype(const char* what, DType dtype) {
  ESPALIER_CHECK(dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::f16,
                 ErrorKind::unsupported, "attention", "{} are {}; f32, bf16 and f16 are supported",
                 what, name(dtype));
}

}  // namespace

void check_attention(const AttentionParams& p) {
  constexpr auto kUser = ErrorKind::user;
  ESPALIER_CHECK(p.batch >= 0 && p.heads >= 1 && p.kv_heads >= 1 && p.seq_q >= 0 && p.seq_k >= 0,
                 kUser, "attention",
                 "sizes must be positive: batch {}, heads {}, kv_heads {}, seq_q {}, seq_k {}",
                 p.batch, p.heads, p.kv_heads, p.seq_q, p.seq_k);
  ESPALIER_CHECK(p.heads % p.kv_heads == 0, kUser, "attention",
                 "{} key/value heads do not divide {} query heads", p.kv_heads, p.heads);
  ESPALIER_CHECK(p.head_dim >= 1 && p.head_dim <= 256, ErrorKind::unsupported, "attention",
                 "head size {} is outside 1..256; use more heads", p.head_dim);
  ESPALIER_CHECK(p.seq_q <= INT32_MAX && p.seq_k <= INT32_MAX, ErrorKind::unsupported, "attention",
                 "sequences of {} queries and {} keys; at most 2^31 - 1 are supported", p.seq_q,
                 p.seq_k);
  check_dtype("queries, keys and values", p.dtype);
  check_dtype("outputs", p.out_dtype);
  check_dtype("gradients", p.grad_dtype);
  ESPALIER_CHECK(p.dropout >= 0.0f && p.dropout < 1.0f, kUser, "attention",
                 "dropout {} is outside [0, 1)", p.dropout);
  ESPALIER_CHECK((p.segments_q == nullptr) == (p.segments_k == nullptr), kUser, "attention",
                 "segments are given for {} only; give both or none",
                 p.segments_q != nullptr ? "queries" : "keys");
}

int64_t attention_forward_scratch(const AttentionParams& params, int threads) {
  check_attention(params);
  return forward_scratch(params, plan_forward(params, threads));
}

int64_t attention_backward_scratch(const AttentionParams& params, int threads) {
  check_attention(params);
  return backward_scratch(params, plan_backward(params, threads));
}

void attention_forward(const AttentionParams& params, const void* q, const void* k, const void* v,
                       void* out, float* lse, void* scratch, int threads) {
  check_attention(params);
  run_forward(plan_forward(params, threads), params, q, k, v, out, lse, scratch);
}

void attention_backward(const AttentionParams& params, const void* q, const void* k, const void* v,
                        const void* out, const float* lse, const void* dout, void* dq, void* dk,
                        void* dv, void* scratch, int threads) {
  check_attention(params);
  run_backward(plan_backward(params, threads), params, q, k, v, out, lse, dout, dq, dk, dv,
               scratch);
}

}  // namespace espalier::cpu
