// SPDX-License-Identifier: Apache-2.0
// BertConfig from and to config.json.
#include <nlohmann/json.hpp>

#include "espalier/base/error.h"
#include "espalier/base/text.h"
#include "espalier/io/file.h"
#include "espalier/models/bert.h"

namespace espalier::models {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kConfigLimit = int64_t{1} << 20;
const std::vector<std::pair<std::string, BertActivation>> kActivations{
    {"gelu", BertActivation::gelu},
    {"gelu_new", BertActivation::gelu_tanh},
    {"gelu_pytorch_tanh", BertActivation::gelu_tanh},
    {"relu", BertActivation::relu}};

class Reader {
 public:
  Reader(const Json& json, std::string_view label) : json_(json), label_(label) {}

  void take(const char* key, int64_t& value, int64_t least) {
    const Json* found = find(key);
    if (found == nullptr) return;
    // Larger sizes are no model; products of two of them fit 63 bits.
    constexpr int64_t kMost = int64_t{1} << 31;
    ESPALIER_CHECK(found->is_number_integer() && found->get<int64_t>() >= least &&
                       found->get<int64_t>() <= kMost,
                   ErrorKind::data, "bert", "{} = {} is no size between {} and {} in {}", key,
                   found->dump(), least, kMost, label_);
    value = found->get<int64_t>();
  }

  void take(const char* key, double& value, double least, double below) {
    const Json* found = find(key);
    if (found == nullptr) return;
    ESPALIER_CHECK(
        found->is_number() && found->get<double>() >= least && found->get<double>() < below,
        ErrorKind::data, "bert", "{} = {} is no number in [{}, {}) in {}", key, found->dump(),
        least, below, label_);
    value = found->get<double>();
  }

  void take(const char* key, bool& value) {
    const Json* found = find(key);
    if (found == nullptr) return;
    ESPALIER_CHECK(found->is_boolean(), ErrorKind::data, "bert",
                   "{} = {} is not true or false in {}", key, found->dump(), label_);
    value = found->get<bool>();
  }

  void take_activation(BertActivation& value) {
    const Json* found = find("hidden_act");
    if (found == nullptr) return;
    for (const auto& [name, activation] : kActivations) {
      if (*found == name) {
        value = activation;
        return;
      }
    }
    lacking_.push_back(
        fmt::format("hidden_act = {} (gelu, gelu_new, gelu_pytorch_tanh and relu "
                    "are supported)",
                    found->dump()));
  }

  /// An option whose other values the model lacks.
  void only(const char* key, const Json& value) {
    const Json* found = find(key);
    if (found != nullptr && *found != value) {
      lacking_.push_back(
          fmt::format("{} = {} (only {} is supported)", key, found->dump(), value.dump()));
    }
  }

  void check_supported() const {
    ESPALIER_CHECK(lacking_.empty(), ErrorKind::unsupported, "bert",
                   "{} asks for what this model lacks: {}", label_, fmt::join(lacking_, "; "));
  }

 private:
  /// Absent and null mean the default.
  const Json* find(const char* key) const {
    const auto at = json_.find(key);
    return at == json_.end() || at->is_null() ? nullptr : &*at;
  }

  const Json& json_;
  std::string_view label_;
  std::vector<std::string> lacking_;
};

}  // namespace

BertConfig parse_bert_config(std::string_view text, std::string_view label) {
  Json json;
  try {
    json = Json::parse(text);
  } catch (const Json::exception& error) {
    fail(ErrorKind::data, "bert", "{} is not JSON: {}", label, error.what());
  }
  ESPALIER_CHECK(json.is_object(), ErrorKind::data, "bert", "{} is not a JSON object", label);
  Reader reader(json, label);
  BertConfig c;
  reader.only("model_type", "bert");
  reader.only("position_embedding_type", "absolute");
  reader.only("is_decoder", false);
  reader.only("add_cross_attention", false);
  reader.only("is_encoder_decoder", false);
  reader.only("chunk_size_feed_forward", 0);
  reader.only("pruned_heads", Json::object());
  reader.take_activation(c.hidden_act);
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

std::string bert_config_json(const BertConfig& c) {
  std::string_view activation;
  for (const auto& [name, value] : kActivations) {
    if (value == c.hidden_act && activation.empty()) activation = name;
  }
  const Json json{{"architectures", {"BertForMaskedLM"}},
                  {"model_type", "bert"},
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
