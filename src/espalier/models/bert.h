// SPDX-License-Identifier: Apache-2.0
// BERT for masked-language modelling (Devlin et al., arXiv 1810.04805) with the parameter paths,
// shapes and numerics of Hugging Face's BertForMaskedLM.
//
// The structs below are the tree of parameters: 10 + 16 a layer. The decoder is tied to the word
// embedding: `bert.embeddings.word_embeddings.weight` is the leaf and
// `cls.predictions.decoder.weight` its second path; so is `cls.predictions.decoder.bias` of
// `cls.predictions.bias`.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/nn/embedding.h"
#include "espalier/nn/layer_norm.h"
#include "espalier/nn/linear.h"

namespace espalier::models {

enum class BertActivation : uint8_t { gelu, gelu_tanh, relu };

/// Names and defaults of `config.json`.
struct BertConfig {
  int64_t vocab_size = 30522;
  int64_t hidden_size = 768;
  int64_t num_hidden_layers = 12;
  int64_t num_attention_heads = 12;
  int64_t intermediate_size = 3072;
  int64_t max_position_embeddings = 512;
  int64_t type_vocab_size = 2;
  BertActivation hidden_act = BertActivation::gelu;
  double hidden_dropout_prob = 0.1;
  double attention_probs_dropout_prob = 0.1;
  double layer_norm_eps = 1e-12;
  double initializer_range = 0.02;
  int64_t pad_token_id = 0;
  bool tie_word_embeddings = true;

  int64_t head_size() const { return hidden_size / num_attention_heads; }
};

/// Reads the text of a config.json. Throws `data` for text that is not JSON, keys of wrong types
/// and sizes that cannot be; `unsupported`, naming all of them, for options this model lacks.
BertConfig parse_bert_config(std::string_view json, std::string_view label);
BertConfig read_bert_config(const std::filesystem::path& path);
/// config.json as `transformers` reads it; `dtype` is that of the weights beside it.
std::string bert_config_json(const BertConfig& config, DType dtype = DType::f32);

struct BertEmbeddings : nn::Module<BertEmbeddings> {
  nn::Embedding word_embeddings;        // [vocab, hidden]
  nn::Embedding position_embeddings;    // [positions, hidden]
  nn::Embedding token_type_embeddings;  // [types, hidden]
  nn::LayerNorm layer_norm;
  static constexpr auto fields = nn::fields(
      &BertEmbeddings::word_embeddings, "word_embeddings", &BertEmbeddings::position_embeddings,
      "position_embeddings", &BertEmbeddings::token_type_embeddings, "token_type_embeddings",
      &BertEmbeddings::layer_norm, "LayerNorm");

  BertEmbeddings() = default;
  explicit BertEmbeddings(const BertConfig& config);
};

struct BertSelfAttention : nn::Module<BertSelfAttention> {
  nn::Linear query, key, value;  // [hidden, hidden], head by head
  static constexpr auto fields =
      nn::fields(&BertSelfAttention::query, "query", &BertSelfAttention::key, "key",
                 &BertSelfAttention::value, "value");

  BertSelfAttention() = default;
  explicit BertSelfAttention(const BertConfig& config);
};

/// dense, dropout, then LayerNorm of the sum with the residual.
struct BertOutput : nn::Module<BertOutput> {
  nn::Linear dense;
  nn::LayerNorm layer_norm;
  static constexpr auto fields =
      nn::fields(&BertOutput::dense, "dense", &BertOutput::layer_norm, "LayerNorm");

  BertOutput() = default;
  BertOutput(int64_t in, const BertConfig& config);
};

struct BertAttention : nn::Module<BertAttention> {
  BertSelfAttention self;
  BertOutput output;
  static constexpr auto fields =
      nn::fields(&BertAttention::self, "self", &BertAttention::output, "output");

  BertAttention() = default;
  explicit BertAttention(const BertConfig& config);
};

/// dense and the activation.
struct BertIntermediate : nn::Module<BertIntermediate> {
  nn::Linear dense;  // [intermediate, hidden]
  static constexpr auto fields = nn::fields(&BertIntermediate::dense, "dense");

  BertIntermediate() = default;
  explicit BertIntermediate(const BertConfig& config);
};

struct BertLayer : nn::Module<BertLayer> {
  BertAttention attention;
  BertIntermediate intermediate;
  BertOutput output;
  static constexpr auto fields =
      nn::fields(&BertLayer::attention, "attention", &BertLayer::intermediate, "intermediate",
                 &BertLayer::output, "output");

  BertLayer() = default;
  explicit BertLayer(const BertConfig& config);
};

struct BertEncoder : nn::Module<BertEncoder> {
  std::vector<BertLayer> layer;
  static constexpr auto fields = nn::fields(&BertEncoder::layer, "layer");
};

struct BertModel : nn::Module<BertModel> {
  BertEmbeddings embeddings;
  BertEncoder encoder;
  static constexpr auto fields =
      nn::fields(&BertModel::embeddings, "embeddings", &BertModel::encoder, "encoder");
};

/// dense, activation, LayerNorm.
struct BertHeadTransform : nn::Module<BertHeadTransform> {
  nn::Linear dense;
  nn::LayerNorm layer_norm;
  static constexpr auto fields =
      nn::fields(&BertHeadTransform::dense, "dense", &BertHeadTransform::layer_norm, "LayerNorm");

  BertHeadTransform() = default;
  explicit BertHeadTransform(const BertConfig& config);
};

struct BertPredictions : nn::Module<BertPredictions> {
  nn::Param bias;  // [vocab]
  BertHeadTransform transform;
  nn::Linear decoder;  // [vocab, hidden], with the bias above
  static constexpr auto fields =
      nn::fields(&BertPredictions::bias, "bias", &BertPredictions::transform, "transform",
                 &BertPredictions::decoder, "decoder");

  BertPredictions() = default;
  explicit BertPredictions(const BertConfig& config);
};

struct BertHead : nn::Module<BertHead> {
  BertPredictions predictions;
  static constexpr auto fields = nn::fields(&BertHead::predictions, "predictions");
};

struct BertForMaskedLm : nn::Module<BertForMaskedLm> {
  BertConfig config;
  BertModel bert;
  BertHead cls;
  static constexpr auto fields =
      nn::fields(&BertForMaskedLm::bert, "bert", &BertForMaskedLm::cls, "cls");

  BertForMaskedLm() = default;
  /// An abstract tree: no tensor is allocated. Throws `user` for sizes that are not positive and
  /// heads that do not divide the hidden size.
  explicit BertForMaskedLm(const BertConfig& config);
};

}  // namespace espalier::models
