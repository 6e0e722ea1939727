// SPDX-License-Identifier: Apache-2.0
#include "espalier/models/qwen2.h"

#include "espalier/base/error.h"

namespace espalier::models {
namespace {

nn::Init weights(const Qwen2Config& c) { return nn::Init::normal(c.initializer_range); }

nn::Linear linear(int64_t in, int64_t out, bool bias, const Qwen2Config& c) {
  nn::Linear made;
  made.weight = nn::Param({out, in}, weights(c));
  if (bias) made.bias = nn::Param({out}, nn::Init::zeros());
  return made;
}

void check(const Qwen2Config& c) {
  const auto positive = [](std::string_view what, int64_t size) {
    ESPALIER_CHECK(size > 0, ErrorKind::user, "qwen2", "{} = {} must be positive", what, size);
  };
  positive("vocab_size", c.vocab_size);
  positive("hidden_size", c.hidden_size);
  positive("num_hidden_layers", c.num_hidden_layers);
  positive("num_attention_heads", c.num_attention_heads);
  positive("num_key_value_heads", c.num_key_value_heads);
  positive("intermediate_size", c.intermediate_size);
  positive("max_position_embeddings", c.max_position_embeddings);
  ESPALIER_CHECK(c.hidden_size % c.num_attention_heads == 0, ErrorKind::user, "qwen2",
                 "num_attention_heads = {} does not divide hidden_size = {}", c.num_attention_heads,
                 c.hidden_size);
  ESPALIER_CHECK(c.num_attention_heads % c.num_key_value_heads == 0, ErrorKind::user, "qwen2",
                 "num_key_value_heads = {} does not divide num_attention_heads = {}",
                 c.num_key_value_heads, c.num_attention_heads);
  ESPALIER_CHECK(c.head_size() % 2 == 0, ErrorKind::user, "qwen2",
                 "rotary positions need an even head size, hidden_size {} over {} heads is {}",
                 c.hidden_size, c.num_attention_heads, c.head_size());
}

}  // namespace

Qwen2Attention::Qwen2Attention(const Qwen2Config& c)
    : q_proj(linear(c.hidden_size, c.num_attention_heads * c.head_size(), true, c)),
      k_proj(linear(c.hidden_size, c.num_key_value_heads * c.head_size(), true, c)),
      v_proj(k_proj),
      o_proj(linear(c.num_attention_heads * c.head_size(), c.hidden_size, false, c)) {}

Qwen2Mlp::Qwen2Mlp(const Qwen2Config& c)
    : gate_proj(linear(c.hidden_size, c.intermediate_size, false, c)),
      up_proj(gate_proj),
      down_proj(linear(c.intermediate_size, c.hidden_size, false, c)) {}

Qwen2Layer::Qwen2Layer(const Qwen2Config& c)
    : self_attn(c),
      mlp(c),
      input_layernorm(c.hidden_size, c.rms_norm_eps),
      post_attention_layernorm(c.hidden_size, c.rms_norm_eps) {}

Qwen2ForCausalLm::Qwen2ForCausalLm(const Qwen2Config& c) : config(c) {
  check(c);
  model.embed_tokens = nn::Embedding(c.vocab_size, c.hidden_size, weights(c));
  model.layers.assign(static_cast<size_t>(c.num_hidden_layers), Qwen2Layer(c));
  model.norm = nn::RmsNorm(c.hidden_size, c.rms_norm_eps);
  lm_head = linear(c.hidden_size, c.vocab_size, false, c);
  if (c.tie_word_embeddings) lm_head.weight.tied_to = "model.embed_tokens.weight";
}

}  // namespace espalier::models
