// SPDX-License-Identifier: Apache-2.0
// The byte-level language model: bytes [batch, seq] -> logits [batch, seq, vocab], where position i
// predicts byte i from the bytes before it.
//
//   embedding -> shift right by one (zeros come first) -> + positions -> dropout
//   -> layers of x += attention(norm1(x)); x += mlp(norm2(x)) -> decoder
//
// Written twice over one tree of parameters: `library` from the layers of nn, `handcraft` from
// basic ops only. Both mean the same and compile to the same program.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "espalier/nn/context.h"
#include "espalier/nn/embedding.h"
#include "espalier/nn/feed_forward.h"
#include "espalier/nn/layer_norm.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/self_attention.h"

namespace espalier::models {

struct ByteLmConfig {
  int64_t vocab = 256;
  int64_t width = 512;
  int64_t heads = 8;
  int64_t ffn = 2048;
  int64_t layers = 8;
  int64_t seq_len = 256;
  /// After the embedding, the attention's output projection, inside and after the feed-forward.
  double dropout = 0.1;
  double norm_epsilon = 1e-5;
  nn::InitScheme init = nn::InitScheme::torch;
};

/// Pre-norm transformer layer: x [batch, seq, width] -> same.
struct ByteLmLayer : nn::Module<ByteLmLayer> {
  nn::LayerNorm norm1;
  nn::SelfAttention attention;
  nn::LayerNorm norm2;
  nn::FeedForward mlp;
  static constexpr auto fields =
      nn::fields(&ByteLmLayer::norm1, "norm1", &ByteLmLayer::attention, "attention",
                 &ByteLmLayer::norm2, "norm2", &ByteLmLayer::mlp, "mlp");

  ByteLmLayer() = default;
  explicit ByteLmLayer(const ByteLmConfig& config);
};

struct ByteLm : nn::Module<ByteLm> {
  ByteLmConfig config;
  nn::Embedding embedding;
  nn::Embedding position;  // starts at zero
  std::vector<ByteLmLayer> layers;
  nn::Linear decoder;
  static constexpr auto fields =
      nn::fields(&ByteLm::embedding, "embedding", &ByteLm::position, "position", &ByteLm::layers,
                 "layers", &ByteLm::decoder, "decoder");

  ByteLm() = default;
  /// Throws `user` when a size is not positive or the heads do not divide the width.
  explicit ByteLm(const ByteLmConfig& config);
};

enum class ByteLmVariant : uint8_t { library, handcraft };

/// "library" or "handcraft"; throws `user` for anything else.
ByteLmVariant parse_byte_lm_variant(std::string_view text);

/// [batch, seq] each; what is undefined has the value named here.
struct ByteLmInputs {
  Tensor bytes;           // u8
  Tensor positions = {};  // integers: 0, 1, ...; rows packed of several texts count each from 0
  Tensor segments = {};   // integers: a position sees those of its own segment only. One segment
};

/// The output of the last layer [batch, seq, width], of the library variant. Hooks as below.
Tensor byte_lm_encode(const ByteLm& model, const ByteLmInputs& inputs, const nn::Context& context);

/// Logits [batch, seq, vocab] of u8 bytes [batch, seq]; seq is at most config.seq_len.
/// Hooks: embed, and for each layer i resid_pre.i, attn_out.i, resid_mid.i, mlp_out.i,
/// resid_post.i, all [batch, seq, width].
Tensor byte_lm_logits(const ByteLm& model, ByteLmVariant variant, Tensor bytes,
                      const nn::Context& context);

/// Mean cross-entropy (nats) over all positions; the targets are the bytes themselves.
Tensor byte_lm_loss(ByteLmVariant variant, Tensor logits, Tensor bytes);

/// The graph input "batch.bytes", u8 [batch, seq].
Tensor byte_lm_input(ir::Builder& builder, int64_t batch, int64_t seq);

/// Operations of one training step for one sequence: 6 per weight of a matrix product and position,
/// and 12 seq width per layer and position for attention, halved because it is causal.
double byte_lm_train_flops(const ByteLmConfig& config);

}  // namespace espalier::models
