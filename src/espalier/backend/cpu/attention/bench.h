// SPDX-License-Identifier: Apache-2.0
// Speed of attention on random data.
#pragma once

#include "espalier/backend/cpu/attention/attention.h"

namespace espalier::cpu {

struct AttentionBenchResult {
  double forward_seconds = 0.0;  // the fastest of the repetitions
  double backward_seconds = 0.0;
  // Work without recomputation; a causal mask counts half. The backward pass does a quarter more:
  // it computes the logits again.
  double forward_flops = 0.0;   // 4 head_dim per visible pair and head
  double backward_flops = 0.0;  // 8 head_dim
  double forward_gflops() const { return forward_flops / forward_seconds * 1e-9; }
  double backward_gflops() const { return backward_flops / backward_seconds * 1e-9; }
};

/// Runs both passes for about `seconds` on q, k and v in one [batch, seq, 3 * heads * head_dim]
/// buffer (strides in `params` are ignored; kv_heads must equal heads, seq_q seq_k).
AttentionBenchResult bench_attention(AttentionParams params, int threads, double seconds = 0.5);

}  // namespace espalier::cpu
