// SPDX-License-Identifier: Apache-2.0
#include "espalier/nn/self_attention.h"

#include "espalier/base/error.h"

namespace espalier::nn {

SelfAttention::SelfAttention(const SelfAttentionOptions& options) : options(options) {
  ESPALIER_CHECK(options.heads > 0 && options.width % options.heads == 0, ErrorKind::user,
                 "attention", "heads = {} do not divide width = {}", options.heads, options.width);
  qkv = Linear(options.width, 3 * options.width, {.init = options.init});
  out = Linear(options.width, options.width, {.init = options.init});
}

Tensor SelfAttention::operator()(Tensor x, const Context& context, Tensor segments) const {
  const int64_t width = options.width;
  const Shape by_head{x.size(0), x.size(1), options.heads, width / options.heads};
  const Tensor rows = qkv(x);  // [batch, seq, 3 width]
  const Tensor q = reshape(slice(rows, 2, 0, width), by_head);
  const Tensor k = reshape(slice(rows, 2, width, 2 * width), by_head);
  const Tensor v = reshape(slice(rows, 2, 2 * width, 3 * width), by_head);
  const Tensor mixed =
      scaled_dot_product_attention(q, k, v,
                                   {.causal = options.causal,
                                    .dropout = context.training ? options.attention_dropout : 0.0,
                                    .segments_q = segments,
                                    .segments_k = segments,
                                    .rng = context.rng});
  return context.dropout(out(reshape(mixed, x.shape())), options.output_dropout);
}

}  // namespace espalier::nn
