// SPDX-License-Identifier: Apache-2.0
// Qwen2Config from and to config.json.
#include <algorithm>

#include "espalier/base/error.h"
#include "espalier/io/file.h"
#include "espalier/models/config_reader.h"
#include "espalier/models/qwen2.h"
#include "espalier/tensor/dtype_names.h"

namespace espalier::models {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kConfigLimit = int64_t{1} << 20;

/// Newer files keep theta in an object, older ones beside the sizes.
void read_rope(ConfigReader& reader, double& theta) {
  constexpr double kMost = 1e12;
  reader.take("rope_theta", theta, 1.0, kMost);
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    ConfigReader rope = reader.object(key);
    rope.take("rope_theta", theta, 1.0, kMost);
    for (const char* type : {"rope_type", "type"}) {
      const Json* found = rope.find(type);
      if (found != nullptr && *found != "default") {
        reader.lack(std::string(key) + "." + type, *found, "only \"default\" is");
      }
    }
  }
}

void read_windows(ConfigReader& reader) {
  reader.only("use_sliding_window", false);
  const Json* layers = reader.find("layer_types");
  if (layers == nullptr || !layers->is_array()) return;
  const auto other = std::find_if(layers->begin(), layers->end(),
                                  [](const Json& type) { return type != "full_attention"; });
  if (other != layers->end()) reader.lack("layer_types", *other, "only \"full_attention\" is");
}

}  // namespace

Qwen2Config qwen2_config(std::string_view name) {
  if (name == "qwen2-0.5b") return {};
  ESPALIER_CHECK(name == "qwen2-7b", ErrorKind::user, "qwen2",
                 "there is no configuration \"{}\"; known: qwen2-0.5b, qwen2-7b", name);
  return {.vocab_size = 152064,
          .hidden_size = 3584,
          .num_hidden_layers = 28,
          .num_attention_heads = 28,
          .num_key_value_heads = 4,
          .intermediate_size = 18944,
          .tie_word_embeddings = false};
}

Qwen2Config parse_qwen2_config(std::string_view text, std::string_view label) {
  ConfigReader reader("qwen2", text, label);
  Qwen2Config c;
  c.tie_word_embeddings = false;  // what an absent key means in these files
  reader.only("model_type", "qwen2");
  reader.only("hidden_act", "silu");
  reader.only("attention_dropout", 0.0);
  reader.take("vocab_size", c.vocab_size, 1);
  reader.take("hidden_size", c.hidden_size, 1);
  reader.take("num_hidden_layers", c.num_hidden_layers, 1);
  reader.take("num_attention_heads", c.num_attention_heads, 1);
  c.num_key_value_heads = c.num_attention_heads;
  reader.take("num_key_value_heads", c.num_key_value_heads, 1);
  reader.take("intermediate_size", c.intermediate_size, 1);
  reader.take("max_position_embeddings", c.max_position_embeddings, 1);
  reader.take("rms_norm_eps", c.rms_norm_eps, 0.0, 1.0);
  reader.take("initializer_range", c.initializer_range, 0.0, 1e6);
  reader.take("tie_word_embeddings", c.tie_word_embeddings);
  read_rope(reader, c.rope_theta);
  read_windows(reader);
  int64_t head_size = c.head_size();
  reader.take("head_dim", head_size, 1);
  if (head_size != c.head_size()) {
    reader.lack("head_dim", head_size,
                fmt::format("only hidden_size / num_attention_heads = {} is", c.head_size()));
  }
  reader.check_supported();
  ESPALIER_CHECK(c.hidden_size % c.num_attention_heads == 0, ErrorKind::data, "qwen2",
                 "num_attention_heads = {} does not divide hidden_size = {} in {}",
                 c.num_attention_heads, c.hidden_size, label);
  ESPALIER_CHECK(c.num_attention_heads % c.num_key_value_heads == 0, ErrorKind::data, "qwen2",
                 "num_key_value_heads = {} does not divide num_attention_heads = {} in {}",
                 c.num_key_value_heads, c.num_attention_heads, label);
  return c;
}

Qwen2Config read_qwen2_config(const std::filesystem::path& path) {
  return parse_qwen2_config(io::read_text(path, kConfigLimit, {.stage = "qwen2"}), path.string());
}

std::string qwen2_config_json(const Qwen2Config& c, DType dtype) {
  const Json json{{"architectures", {"Qwen2ForCausalLM"}},
                  {"model_type", "qwen2"},
                  {"dtype", std::string(long_name(dtype))},
                  {"vocab_size", c.vocab_size},
                  {"hidden_size", c.hidden_size},
                  {"num_hidden_layers", c.num_hidden_layers},
                  {"num_attention_heads", c.num_attention_heads},
                  {"num_key_value_heads", c.num_key_value_heads},
                  {"intermediate_size", c.intermediate_size},
                  {"max_position_embeddings", c.max_position_embeddings},
                  {"hidden_act", "silu"},
                  {"rope_theta", c.rope_theta},
                  {"rms_norm_eps", c.rms_norm_eps},
                  {"initializer_range", c.initializer_range},
                  {"attention_dropout", 0.0},
                  {"use_sliding_window", false},
                  {"tie_word_embeddings", c.tie_word_embeddings}};
  return json.dump(2) + "\n";
}

}  // namespace espalier::models
