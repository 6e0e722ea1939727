// SPDX-License-Identifier: Apache-2.0
#include "espalier/models/byte_lm.h"

#include <fmt/format.h>

#include "espalier/base/error.h"
#include "espalier/base/text.h"
#include "espalier/models/byte_lm_handcraft.h"

namespace espalier::models {
namespace {

using Scope = ir::Builder::Scope;

Tensor library_layer(const ByteLmLayer& layer, Tensor x, int64_t index, Tensor segments,
                     const nn::Context& context) {
  ir::Builder& builder = x.builder();
  context.hook(fmt::format("resid_pre.{}", index), x);
  Tensor y;
  {
    Scope scope(builder, "norm1");
    y = layer.norm1(x);
  }
  {
    Scope scope(builder, "attention");
    y = layer.attention(y, context, segments);
  }
  context.hook(fmt::format("attn_out.{}", index), y);
  x = x + y;
  context.hook(fmt::format("resid_mid.{}", index), x);
  {
    Scope scope(builder, "norm2");
    y = layer.norm2(x);
  }
  {
    Scope scope(builder, "mlp");
    y = layer.mlp(y, context);
  }
  context.hook(fmt::format("mlp_out.{}", index), y);
  x = x + y;
  context.hook(fmt::format("resid_post.{}", index), x);
  return x;
}

/// What each position knows: the byte before it, zeros at the start of a text, and where it is.
Tensor embed(const ByteLm& model, const ByteLmInputs& inputs) {
  const Tensor bytes = inputs.bytes;
  const int64_t seq = bytes.size(1);
  // The last byte predicts nothing and is not looked up.
  const Tensor before = pad(model.embedding(slice(bytes, 1, 0, seq - 1)), 1, 1, 0);
  if (!inputs.positions.defined()) {
    return before + slice(model.position.weight.value(), 0, 0, seq);
  }
  const Tensor start = compare(ir::Op::eq, inputs.positions, constant_like(inputs.positions, 0.0));
  const Tensor known =
      select(broadcast(start, before.shape(), {0, 1}), constant_like(before, 0.0), before);
  return known + model.position(inputs.positions);
}

void check_bytes(const ByteLm& model, Tensor bytes) {
  ESPALIER_CHECK(bytes.dtype() == DType::u8 && bytes.rank() == 2 && bytes.size(1) > 0 &&
                     bytes.size(1) <= model.config.seq_len,
                 ErrorKind::user, "byte_lm",
                 "bytes must be u8[batch,seq] with seq between 1 and seq_len = {}, got {}",
                 model.config.seq_len, bytes.type().str());
}

}  // namespace

ByteLmLayer::ByteLmLayer(const ByteLmConfig& c)
    : norm1(c.width, c.norm_epsilon),
      attention({.width = c.width,
                 .heads = c.heads,
                 .causal = true,
                 .output_dropout = c.dropout,
                 .init = c.init}),
      norm2(c.width, c.norm_epsilon),
      mlp({.width = c.width,
           .hidden = c.ffn,
           .hidden_dropout = c.dropout,
           .output_dropout = c.dropout,
           .init = c.init}) {}

ByteLm::ByteLm(const ByteLmConfig& c) : config(c) {
  const auto positive = [](std::string_view what, int64_t size) {
    ESPALIER_CHECK(size > 0, ErrorKind::user, "byte_lm", "{} = {} must be positive", what, size);
  };
  positive("vocab", c.vocab);
  positive("width", c.width);
  positive("heads", c.heads);
  positive("ffn", c.ffn);
  positive("layers", c.layers);
  positive("seq_len", c.seq_len);
  ESPALIER_CHECK(c.vocab <= 256, ErrorKind::user, "byte_lm", "vocab = {} is more than 256 bytes",
                 c.vocab);
  ESPALIER_CHECK(c.dropout >= 0.0 && c.dropout < 1.0, ErrorKind::user, "byte_lm",
                 "dropout = {} is outside [0, 1)", c.dropout);
  embedding = nn::Embedding(c.vocab, c.width, nn::embedding_init(c.init));
  position = nn::Embedding(c.seq_len, c.width, nn::Init::zeros());
  layers.assign(static_cast<size_t>(c.layers), ByteLmLayer(c));
  decoder = nn::Linear(c.width, c.vocab, {.init = c.init});
}

ByteLmVariant parse_byte_lm_variant(std::string_view text) {
  static const std::vector<std::string> kNames{"library", "handcraft"};
  if (text == kNames[0]) return ByteLmVariant::library;
  ESPALIER_CHECK(text == kNames[1], ErrorKind::user, "byte_lm",
                 "model \"{}\" is neither library nor handcraft{}", text,
                 nearest_hint(text, kNames));
  return ByteLmVariant::handcraft;
}

Tensor byte_lm_input(ir::Builder& builder, int64_t batch, int64_t seq) {
  ESPALIER_CHECK(batch > 0 && seq > 0, ErrorKind::user, "byte_lm",
                 "batch = {} and seq = {} must be positive", batch, seq);
  return {builder, builder.input("batch.bytes", {DType::u8, {batch, seq}}, "batch")};
}

Tensor byte_lm_encode(const ByteLm& model, const ByteLmInputs& inputs, const nn::Context& context) {
  check_bytes(model, inputs.bytes);
  ir::Builder& builder = inputs.bytes.builder();
  Tensor x;
  {
    Scope scope(builder, "embedding");
    x = context.dropout(context.hook("embed", embed(model, inputs)), model.config.dropout);
  }
  for (size_t i = 0; i < model.layers.size(); ++i) {
    Scope scope(builder, fmt::format("layers.{}", i));
    x = library_layer(model.layers[i], x, static_cast<int64_t>(i), inputs.segments, context);
  }
  return x;
}

Tensor byte_lm_logits(const ByteLm& model, ByteLmVariant variant, Tensor bytes,
                      const nn::Context& context) {
  check_bytes(model, bytes);
  if (variant == ByteLmVariant::handcraft) return handcraft::logits(model, bytes, context);
  const Tensor x = byte_lm_encode(model, {.bytes = bytes}, context);
  Scope scope(bytes.builder(), "decoder");
  return model.decoder(x);
}

Tensor byte_lm_loss(ByteLmVariant variant, Tensor logits, Tensor bytes) {
  Scope scope(logits.builder(), "loss");
  return variant == ByteLmVariant::library ? mean(softmax_cross_entropy(logits, bytes), {0, 1})
                                           : handcraft::loss(logits, bytes);
}

double byte_lm_train_flops(const ByteLmConfig& c) {
  const auto width = static_cast<double>(c.width);
  const auto seq = static_cast<double>(c.seq_len);
  const auto layers = static_cast<double>(c.layers);
  const double weights = layers * (4.0 * width * width + 2.0 * width * static_cast<double>(c.ffn)) +
                         width * static_cast<double>(c.vocab);
  return seq * (6.0 * weights + 0.5 * layers * 12.0 * seq * width);
}

}  // namespace espalier::models
