// SPDX-License-Identifier: Apache-2.0
#include "espalier/models/byte_lm_handcraft.h"

#include <fmt/format.h>

#include <cmath>

namespace espalier::models::handcraft {
namespace {

using ir::Op;
using Scope = ir::Builder::Scope;

/// One number a row, repeated along the rows of `like`: [B,S] -> [B,S,D] or [B,H,S] -> [B,H,S,S].
Tensor along_rows(Tensor per_row, Tensor like) {
  return per_row.rank() == 2 ? broadcast(per_row, like.shape(), {0, 1})
                             : broadcast(per_row, like.shape(), {0, 1, 2});
}

/// x [B,S,in] times weight [out,in] transposed, plus bias [out].
Tensor affine(Tensor x, const nn::Linear& parameters) {
  const Tensor y = dot(x, parameters.weight.value(), {.lhs_contract = {2}, .rhs_contract = {1}});
  return y + broadcast(parameters.bias->value(), y.shape(), {2});
}

Tensor normalize(Tensor x, const nn::LayerNorm& parameters) {
  const double per_element = 1.0 / static_cast<double>(x.size(2));
  const Tensor centred = x - along_rows(reduce_sum(x, {2}) * per_element, x);
  const Tensor variance = reduce_sum(centred * centred, {2}) * per_element;
  const Tensor scaled = centred * along_rows(rsqrt(variance + parameters.epsilon), x);
  const Tensor weighted = scaled * broadcast(parameters.weight.value(), x.shape(), {2});
  return weighted + broadcast(parameters.bias.value(), x.shape(), {2});
}

/// Columns [first, first + width) of x as heads: [B,S,...] -> [B,S,heads,width/heads]
Tensor heads_of(Tensor x, int64_t first, const ByteLmConfig& config) {
  const Tensor columns = slice(x, 2, first, first + config.width);
  return reshape(columns, {x.size(0), x.size(1), config.heads, config.width / config.heads});
}

Tensor heads_first(Tensor x) { return transpose(x, {0, 2, 1, 3}); }

Tensor causal_attention(Tensor x, const ByteLmLayer& layer, const ByteLmConfig& config,
                        const nn::Context& context) {
  const int64_t width = config.width;
  const Tensor rows = affine(x, layer.attention.qkv);  // [B,S,3 width]
  Tensor q = heads_of(rows, 0, config);
  Tensor k = heads_of(rows, width, config);
  Tensor v = heads_of(rows, 2 * width, config);
  q = heads_first(q);
  k = heads_first(k);
  v = heads_first(v);

  const int64_t head = width / config.heads;
  const double scale = 1.0 / std::sqrt(static_cast<double>(head));
  Tensor scores = dot(q, k, {{0, 1}, {0, 1}, {3}, {3}}) * scale;  // [B,H,S,S]
  const Shape square = scores.shape();
  const Shape plane{square[2], square[3]};
  const Tensor query = iota(x.builder(), DType::i32, plane, 0);
  const Tensor key = iota(x.builder(), DType::i32, plane, 1);
  const Tensor visible = broadcast(compare(Op::le, key, query), square, {2, 3});
  scores = select(visible, scores, constant_like(scores, -1e30));

  const Tensor top = stop_gradient(reduce_max(scores, {3}));
  const Tensor weights = exp(scores - along_rows(top, scores));
  const Tensor probabilities = weights / along_rows(reduce_sum(weights, {3}), weights);
  const Tensor mixed = dot(probabilities, v, {{0, 1}, {0, 1}, {3}, {2}});
  const Tensor joined = reshape(heads_first(mixed), x.shape());
  return context.dropout(affine(joined, layer.attention.out), config.dropout);
}

Tensor feed_forward(Tensor x, const ByteLmLayer& layer, const ByteLmConfig& config,
                    const nn::Context& context) {
  const Tensor up = affine(x, layer.mlp.up);
  const Tensor hidden = context.dropout(maximum(up, constant_like(up, 0.0)), config.dropout);
  return context.dropout(affine(hidden, layer.mlp.down), config.dropout);
}

}  // namespace

Tensor logits(const ByteLm& model, Tensor bytes, const nn::Context& context) {
  ir::Builder& builder = bytes.builder();
  const ByteLmConfig& config = model.config;
  const int64_t seq = bytes.size(1);
  Tensor x;
  {
    Scope scope(builder, "embedding");
    x = pad(gather(model.embedding.weight.value(), slice(bytes, 1, 0, seq - 1)), 1, 1, 0);
    const Tensor position = slice(model.position.weight.value(), 0, 0, seq);
    x = x + broadcast(position, x.shape(), {1, 2});
    context.hook("embed", x);
    x = context.dropout(x, config.dropout);
  }
  for (size_t i = 0; i < model.layers.size(); ++i) {
    const ByteLmLayer& layer = model.layers[i];
    Scope layer_scope(builder, fmt::format("layers.{}", i));
    context.hook(fmt::format("resid_pre.{}", i), x);
    Tensor y;
    {
      Scope scope(builder, "norm1");
      y = normalize(x, layer.norm1);
    }
    {
      Scope scope(builder, "attention");
      y = causal_attention(y, layer, config, context);
    }
    context.hook(fmt::format("attn_out.{}", i), y);
    x = x + y;
    context.hook(fmt::format("resid_mid.{}", i), x);
    {
      Scope scope(builder, "norm2");
      y = normalize(x, layer.norm2);
    }
    {
      Scope scope(builder, "mlp");
      y = feed_forward(y, layer, config, context);
    }
    context.hook(fmt::format("mlp_out.{}", i), y);
    x = x + y;
    context.hook(fmt::format("resid_post.{}", i), x);
  }
  Scope scope(builder, "decoder");
  return affine(x, model.decoder);
}

/// logits [B,S,vocab], bytes [B,S].
Tensor loss(Tensor logits, Tensor bytes) {
  const Tensor labels = convert(bytes, DType::i32);
  const Tensor top = stop_gradient(reduce_max(logits, {2}));
  const Tensor shifted = logits - along_rows(top, logits);
  const Tensor index = iota(logits.builder(), DType::i32, logits.shape(), 2);
  const Tensor hit = compare(Op::eq, index, along_rows(labels, logits));
  const Tensor picked = reduce_sum(select(hit, shifted, constant_like(shifted, 0.0)), {2});
  const Tensor losses = log(reduce_sum(exp(shifted), {2})) - picked;
  return reduce_sum(losses, {0, 1}) * (1.0 / static_cast<double>(losses.shape().numel()));
}

}  // namespace espalier::models::handcraft
