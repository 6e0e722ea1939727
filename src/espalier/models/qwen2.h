// SPDX-License-Identifier: Apache-2.0
// Qwen2 and Qwen2.5 (Yang et al., arXiv 2407.10671 and 2412.15115) with the parameter paths, shapes
// and numerics of Hugging Face's Qwen2ForCausalLM: RMSNorm before each block, grouped-query
// attention with rotary positions and biases on q, k and v, SwiGLU.
//
// The structs below are the tree of parameters: 2 + 12 a layer, and one more where the head is not
// tied to the embedding.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/nn/embedding.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/rms_norm.h"

namespace espalier::models {

/// Names of `config.json`; the defaults are Qwen2.5-0.5B.
struct Qwen2Config {
  int64_t vocab_size = 151936;
  int64_t hidden_size = 896;
  int64_t num_hidden_layers = 24;
  int64_t num_attention_heads = 14;
  int64_t num_key_value_heads = 2;
  int64_t intermediate_size = 4864;
  int64_t max_position_embeddings = 32768;
  double rope_theta = 1e6;
  double rms_norm_eps = 1e-6;
  double initializer_range = 0.02;
  bool tie_word_embeddings = true;

  int64_t head_size() const { return hidden_size / num_attention_heads; }
  friend bool operator==(const Qwen2Config&, const Qwen2Config&) = default;
};

/// "qwen2-0.5b" or "qwen2-7b"; throws `user` for another name.
Qwen2Config qwen2_config(std::string_view name);

/// Reads the text of a config.json. Throws `data` for text that is not JSON, keys of wrong types
/// and sizes that cannot be; `unsupported`, naming all of them, for options this model lacks.
Qwen2Config parse_qwen2_config(std::string_view json, std::string_view label);
Qwen2Config read_qwen2_config(const std::filesystem::path& path);
/// config.json as `transformers` reads it.
std::string qwen2_config_json(const Qwen2Config& config, DType dtype = DType::f32);

struct Qwen2Attention : nn::Module<Qwen2Attention> {
  nn::Linear q_proj, k_proj, v_proj;  // [heads * head_size, hidden], [kv_heads * head_size, hidden]
  nn::Linear o_proj;                  // [hidden, hidden], no bias
  static constexpr auto fields =
      nn::fields(&Qwen2Attention::q_proj, "q_proj", &Qwen2Attention::k_proj, "k_proj",
                 &Qwen2Attention::v_proj, "v_proj", &Qwen2Attention::o_proj, "o_proj");

  Qwen2Attention() = default;
  explicit Qwen2Attention(const Qwen2Config& config);
};

/// down(silu(gate(x)) * up(x)) (Shazeer, arXiv 2002.05202).
struct Qwen2Mlp : nn::Module<Qwen2Mlp> {
  nn::Linear gate_proj, up_proj;  // [intermediate, hidden], no bias
  nn::Linear down_proj;           // [hidden, intermediate], no bias
  static constexpr auto fields = nn::fields(&Qwen2Mlp::gate_proj, "gate_proj", &Qwen2Mlp::up_proj,
                                            "up_proj", &Qwen2Mlp::down_proj, "down_proj");

  Qwen2Mlp() = default;
  explicit Qwen2Mlp(const Qwen2Config& config);
};

struct Qwen2Layer : nn::Module<Qwen2Layer> {
  Qwen2Attention self_attn;
  Qwen2Mlp mlp;
  nn::RmsNorm input_layernorm, post_attention_layernorm;
  static constexpr auto fields = nn::fields(
      &Qwen2Layer::self_attn, "self_attn", &Qwen2Layer::mlp, "mlp", &Qwen2Layer::input_layernorm,
      "input_layernorm", &Qwen2Layer::post_attention_layernorm, "post_attention_layernorm");

  Qwen2Layer() = default;
  explicit Qwen2Layer(const Qwen2Config& config);
};

struct Qwen2Model : nn::Module<Qwen2Model> {
  nn::Embedding embed_tokens;  // [vocab, hidden]
  std::vector<Qwen2Layer> layers;
  nn::RmsNorm norm;
  static constexpr auto fields =
      nn::fields(&Qwen2Model::embed_tokens, "embed_tokens", &Qwen2Model::layers, "layers",
                 &Qwen2Model::norm, "norm");
};

struct Qwen2ForCausalLm : nn::Module<Qwen2ForCausalLm> {
  Qwen2Config config;
  Qwen2Model model;
  nn::Linear lm_head;  // [vocab, hidden], no bias
  static constexpr auto fields =
      nn::fields(&Qwen2ForCausalLm::model, "model", &Qwen2ForCausalLm::lm_head, "lm_head");

  Qwen2ForCausalLm() = default;
  /// An abstract tree: no tensor is allocated. Throws `user` for sizes that are not positive, heads
  /// that do not divide the hidden size or that key heads do not divide, and odd head sizes.
  explicit Qwen2ForCausalLm(const Qwen2Config& config);
};

}  // namespace espalier::models
