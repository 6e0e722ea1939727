// SPDX-License-Identifier: Apache-2.0
// BertConfig from and to config.json.
#include "espalier/base/error.h"
#include "espalier/base/text.h"
#include "espalier/io/file.h"
#include "espalier/models/bert.h"
#include "espalier/models/config_reader.h"
#include "espalier/tensor/dtype_names.h"

namespace espalier::models {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kConfigLimit = int64_t{1} << 20;
const std::vector<std::pair<std::string, BertActivation>> kActivations{
    {"gelu", BertActivation::gelu},
    {"gelu_new", BertActivation::gelu_tanh},
    {"gelu_pytorch_tanh", BertActivation::gelu_tanh},
    {"relu", BertActivation::relu}};

}  // namespace

BertConfig parse_bert_config(std::string_view text, std::string_view label) {
  ConfigReader reader("bert", text, label);
  BertConfig c;
  reader.only("model_type", "bert");
  reader.only("position_embedding_type", "absolute");
  reader.only("is_decoder", false);
  reader.only("add_cross_attention", false);
  reader.only("is_encoder_decoder", false);
  reader.only("chunk_size_feed_forward", 0);
  reader.only("pruned_heads", Json::object());
  reader.choose("hidden_act", kActivations, c.hidden_act);
  reader.take("vocab_size", c.vocab_size, 1);
  reader.take("hidden_size", c.hidden_size, 1);
  reader.take("num_hidden_layers", c.num_hidden_layers, 1);
  reader.take("num_attention_heads", c.num_attention_heads, 1);
  reader.take("intermediate_size", c.intermediate_size, 1);
  reader.take("max_position_embeddings", c.max_position_embeddings, 1);
  reader.take("type_vocab_size", c.type_vocab_size, 1);
  reader.take("pad_token_id", c.pad_token_id, 0);
  reader.take("hidden_dropout_prob", c.hidden_dropout_prob, 0.0, 1.0);
  reader.take("attention_probs_dropout_prob", c.attention_probs_dropout_prob, 0.0, 1.0);
  reader.take("layer_norm_eps", c.layer_norm_eps, 0.0, 1.0);
  reader.take("initializer_range", c.initializer_range, 0.0, 1e6);
  reader.take("tie_word_embeddings", c.tie_word_embeddings);
  reader.check_supported();
  ESPALIER_CHECK(c.hidden_size % c.num_attention_heads == 0, ErrorKind::data, "bert",
                 "num_attention_heads = {} does not divide hidden_size = {} in {}",
                 c.num_attention_heads, c.hidden_size, label);
  return c;
}

BertConfig read_bert_config(const std::filesystem::path& path) {
  return parse_bert_config(io::read_text(path, kConfigLimit, {.stage = "bert"}), path.string());
}

std::string bert_config_json(const BertConfig& c, DType dtype) {
  std::string_view activation;
  for (const auto& [name, value] : kActivations) {
    if (value == c.hidden_act && activation.empty()) activation = name;
  }
  const Json json{{"architectures", {"BertForMaskedLM"}},
                  {"model_type", "bert"},
                  {"dtype", std::string(long_name(dtype))},
                  {"vocab_size", c.vocab_size},
                  {"hidden_size", c.hidden_size},
                  {"num_hidden_layers", c.num_hidden_layers},
                  {"num_attention_heads", c.num_attention_heads},
                  {"intermediate_size", c.intermediate_size},
                  {"max_position_embeddings", c.max_position_embeddings},
                  {"type_vocab_size", c.type_vocab_size},
                  {"hidden_act", std::string(activation)},
                  {"hidden_dropout_prob", c.hidden_dropout_prob},
                  {"attention_probs_dropout_prob", c.attention_probs_dropout_prob},
                  {"layer_norm_eps", c.layer_norm_eps},
                  {"initializer_range", c.initializer_range},
                  {"pad_token_id", c.pad_token_id},
                  {"tie_word_embeddings", c.tie_word_embeddings},
                  {"position_embedding_type", "absolute"}};
  return json.dump(2) + "\n";
}

}  // namespace espalier::models
