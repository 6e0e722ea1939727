// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "espalier/nn/context.h"
#include "espalier/nn/linear.h"

namespace espalier::nn {

struct SelfAttentionOptions {
  int64_t width = 0;
  int64_t heads = 1;
  bool causal = false;
  double attention_dropout = 0.0;  // on the attention probabilities
  double output_dropout = 0.0;     // after the output projection
  InitScheme init = InitScheme::torch;
};

/// Multi-head self-attention with one projection for queries, keys and values, whose rows are q,
/// then k, then v, each head by head: x [batch, seq, width] -> same. With segments (integers
/// [batch, seq]) a position sees those of its own segment only.
struct SelfAttention : Module<SelfAttention> {
  Linear qkv, out;
  SelfAttentionOptions options;
  static constexpr auto fields = nn::fields(&SelfAttention::qkv, "qkv", &SelfAttention::out, "out");

  SelfAttention() = default;
  /// Throws `user` when the heads do not divide the width.
  explicit SelfAttention(const SelfAttentionOptions& options);

  Tensor operator()(Tensor x, const Context& context, Tensor segments = {}) const;
};

}  // namespace espalier::nn
