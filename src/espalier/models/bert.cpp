// SPDX-License-Identifier: Apache-2.0
#include "espalier/models/bert.h"

#include "espalier/base/error.h"

namespace espalier::models {
namespace {

nn::Init weights(const BertConfig& c) { return nn::Init::normal(c.initializer_range); }

nn::Linear linear(int64_t in, int64_t out, const BertConfig& c) {
  nn::Linear made;
  made.weight = nn::Param({out, in}, weights(c));
  made.bias = nn::Param({out}, nn::Init::zeros());
  return made;
}

void check(const BertConfig& c) {
  const auto positive = [](std::string_view what, int64_t size) {
    ESPALIER_CHECK(size > 0, ErrorKind::user, "bert", "{} = {} must be positive", what, size);
  };
  positive("vocab_size", c.vocab_size);
  positive("hidden_size", c.hidden_size);
  positive("num_hidden_layers", c.num_hidden_layers);
  positive("num_attention_heads", c.num_attention_heads);
  positive("intermediate_size", c.intermediate_size);
  positive("max_position_embeddings", c.max_position_embeddings);
  positive("type_vocab_size", c.type_vocab_size);
  ESPALIER_CHECK(c.hidden_size % c.num_attention_heads == 0, ErrorKind::user, "bert",
                 "num_attention_heads = {} does not divide hidden_size = {}", c.num_attention_heads,
                 c.hidden_size);
  const auto probability = [](std::string_view what, double p) {
    ESPALIER_CHECK(p >= 0.0 && p < 1.0, ErrorKind::user, "bert", "{} = {} is outside [0, 1)", what,
                   p);
  };
  probability("hidden_dropout_prob", c.hidden_dropout_prob);
  probability("attention_probs_dropout_prob", c.attention_probs_dropout_prob);
}

}  // namespace

BertEmbeddings::BertEmbeddings(const BertConfig& c)
    : word_embeddings(c.vocab_size, c.hidden_size, weights(c)),
      position_embeddings(c.max_position_embeddings, c.hidden_size, weights(c)),
      token_type_embeddings(c.type_vocab_size, c.hidden_size, weights(c)),
      layer_norm(c.hidden_size, c.layer_norm_eps) {}

BertSelfAttention::BertSelfAttention(const BertConfig& c)
    : query(linear(c.hidden_size, c.hidden_size, c)), key(query), value(query) {}

BertOutput::BertOutput(int64_t in, const BertConfig& c)
    : dense(linear(in, c.hidden_size, c)), layer_norm(c.hidden_size, c.layer_norm_eps) {}

BertAttention::BertAttention(const BertConfig& c) : self(c), output(c.hidden_size, c) {}

BertIntermediate::BertIntermediate(const BertConfig& c)
    : dense(linear(c.hidden_size, c.intermediate_size, c)) {}

BertLayer::BertLayer(const BertConfig& c)
    : attention(c), intermediate(c), output(c.intermediate_size, c) {}

BertHeadTransform::BertHeadTransform(const BertConfig& c)
    : dense(linear(c.hidden_size, c.hidden_size, c)), layer_norm(c.hidden_size, c.layer_norm_eps) {}

BertPredictions::BertPredictions(const BertConfig& c)
    : bias({c.vocab_size}, nn::Init::zeros()),
      transform(c),
      decoder(linear(c.hidden_size, c.vocab_size, c)) {
  if (c.tie_word_embeddings) decoder.weight.tied_to = "bert.embeddings.word_embeddings.weight";
  decoder.bias->tied_to = "cls.predictions.bias";
}

BertForMaskedLm::BertForMaskedLm(const BertConfig& c) : config(c) {
  check(c);
  bert.embeddings = BertEmbeddings(c);
  bert.encoder.layer.assign(static_cast<size_t>(c.num_hidden_layers), BertLayer(c));
  cls.predictions = BertPredictions(c);
}

}  // namespace espalier::models
