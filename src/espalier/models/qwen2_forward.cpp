// SPDX-License-Identifier: Apache-2.0
#include "espalier/models/qwen2_forward.h"

#include <fmt/format.h>

#include "espalier/base/error.h"
#include "espalier/nn/rotary.h"

namespace espalier::models {
namespace {

using Scope = ir::Builder::Scope;

Tensor attend(const Qwen2Config& config, const Qwen2Attention& layer, Tensor x,
              const nn::Rotary& rotary, const Qwen2Inputs& inputs) {
  const auto by_head = [&](Tensor y, int64_t heads) {
    return reshape(y, {x.size(0), x.size(1), heads, config.head_size()});
  };
  const int64_t heads = config.num_attention_heads, shared = config.num_key_value_heads;
  const Tensor mixed = scaled_dot_product_attention(rotary(by_head(layer.q_proj(x), heads)),
                                                    rotary(by_head(layer.k_proj(x), shared)),
                                                    by_head(layer.v_proj(x), shared),
                                                    {.causal = true,
                                                     .key_mask = inputs.attention_mask,
                                                     .segments_q = inputs.segments,
                                                     .segments_k = inputs.segments});
  return layer.o_proj(reshape(mixed, {x.size(0), x.size(1), heads * config.head_size()}));
}

Tensor run_layer(const Qwen2Config& config, const Qwen2Layer& layer, Tensor x, size_t index,
                 const nn::Rotary& rotary, const Qwen2Inputs& inputs, const nn::Context& context) {
  ir::Builder& builder = x.builder();
  const auto hook = [&](std::string_view name, Tensor y) {
    return context.hook(fmt::format("{}.{}", name, index), y);
  };
  hook("resid_pre", x);
  {
    Scope scope(builder, "attention");
    const Tensor normed = layer.input_layernorm(x);
    x = x + hook("attn_out", attend(config, layer.self_attn, normed, rotary, inputs));
  }
  hook("resid_mid", x);
  {
    Scope scope(builder, "mlp");
    const Tensor normed = layer.post_attention_layernorm(x);
    const Tensor gated = silu(layer.mlp.gate_proj(normed)) * layer.mlp.up_proj(normed);
    x = x + hook("mlp_out", layer.mlp.down_proj(gated));
  }
  return hook("resid_post", x);
}

}  // namespace

Tensor qwen2_encode(const Qwen2ForCausalLm& model, const Qwen2Inputs& inputs,
                    const nn::Context& context) {
  const Tensor ids = inputs.input_ids;
  const Qwen2Config& config = model.config;
  ESPALIER_CHECK(ids.rank() == 2 && ids.size(1) <= config.max_position_embeddings, ErrorKind::user,
                 "qwen2",
                 "input_ids must be [batch, seq] with seq at most max_position_embeddings = {}, "
                 "got {}",
                 config.max_position_embeddings, ids.type().str());
  const Tensor positions = inputs.position_ids.defined()
                               ? inputs.position_ids
                               : iota(ids.builder(), DType::i32, ids.shape(), 1);
  const nn::Rotary rotary(positions, config.head_size(), config.rope_theta);
  Tensor x = context.hook("embed", model.model.embed_tokens(ids));
  for (size_t i = 0; i < model.model.layers.size(); ++i) {
    Scope scope(ids.builder(), fmt::format("layer.{}", i));
    x = run_layer(config, model.model.layers[i], x, i, rotary, inputs, context);
  }
  return context.hook("final_norm", model.model.norm(x));
}

Tensor qwen2_logits(const Qwen2ForCausalLm& model, Tensor hidden) {
  Scope scope(hidden.builder(), "head");
  return model.lm_head(hidden);
}

Qwen2Loss qwen2_loss(const Qwen2ForCausalLm& model, Tensor hidden, Tensor labels) {
  const int64_t last = hidden.size(1) - 1;
  const Tensor logits = qwen2_logits(model, slice(hidden, 1, 0, last));
  const Tensor next = slice(labels, 1, 1, last + 1);
  Scope scope(hidden.builder(), "loss");
  const auto at_least = [&](double limit) {
    return compare(ir::Op::ge, next, constant_like(next, limit));
  };
  const Tensor counted = logical_and(
      at_least(0.0), logical_not(at_least(static_cast<double>(model.config.vocab_size))));
  return {.sum = reduce_sum(softmax_cross_entropy(logits, next), {0, 1}),
          .count = reduce_sum(convert(counted, DType::f32), {0, 1})};
}

double qwen2_forward_flops(const Qwen2Config& c, int64_t batch, int64_t seq) {
  const auto width = static_cast<double>(c.hidden_size);
  const auto shared = static_cast<double>(c.num_key_value_heads * c.head_size());
  const auto ffn = static_cast<double>(c.intermediate_size);
  const auto tokens = static_cast<double>(batch * seq);
  const double weights = 2.0 * width * width + 2.0 * width * shared + 3.0 * width * ffn;
  return static_cast<double>(c.num_hidden_layers) * tokens *
         (2.0 * weights + 2.0 * static_cast<double>(seq) * width);
}

double qwen2_train_flops(const Qwen2Config& c, int64_t batch, int64_t seq) {
  const double head = 2.0 * static_cast<double>(c.vocab_size * c.hidden_size) *
                      static_cast<double>(batch) * static_cast<double>(seq - 1);
  return 3.0 * (qwen2_forward_flops(c, batch, seq) + head);
}

}  // namespace espalier::models
