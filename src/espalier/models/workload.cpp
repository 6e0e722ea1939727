// SPDX-License-Identifier: Apache-2.0
#include "espalier/models/workload.h"

#include <fmt/format.h>

#include <charconv>

namespace espalier::models {

using shard::Product;

shard::Workload bert_workload(const BertConfig& c, int64_t seq_len, double labelled) {
  shard::Workload work;
  const auto seq = static_cast<double>(seq_len);
  const auto hidden = static_cast<double>(c.hidden_size);
  const std::string embeddings = "bert.embeddings.";
  const std::string words = embeddings + "word_embeddings.weight";
  for (const char* table : {"word_embeddings", "position_embeddings", "token_type_embeddings"}) {
    work.products.push_back(
        {.weight = embeddings + table + ".weight", .rows = seq, .lookup = true, .consumer = {}});
  }
  int32_t input = 0;
  for (int64_t i = 0; i < c.num_hidden_layers; ++i) {
    const std::string layer = fmt::format("bert.encoder.layer.{}.", i);
    const std::string projected = layer + "attention.output.dense.weight";
    const std::string query = layer + "attention.self.query.weight";
    const std::string up = layer + "intermediate.dense.weight";
    const std::string down = layer + "output.dense.weight";
    ++input;
    for (const char* part : {"query", "key", "value"}) {
      work.products.push_back({.weight = layer + "attention.self." + part + ".weight",
                               .rows = seq,
                               .input = input,
                               .consumer = projected});
    }
    work.products.push_back({.weight = projected, .rows = seq, .input = ++input, .consumer = {}});
    work.products.push_back({.weight = up, .rows = seq, .input = ++input, .consumer = down});
    work.products.push_back({.weight = down, .rows = seq, .input = ++input, .consumer = {}});
    // Scores and weighted sums, 4 seq^2 hidden forward and twice that backward.
    work.attention.push_back({query, 12.0 * seq * seq * hidden});
    // Inputs of the two blocks and of their norms are whole; query, key, value and the attended
    // values, and both sides of the activation, are cut as their weights are.
    work.activations.push_back({"", 4.0 * seq * hidden});
    work.activations.push_back({query, 4.0 * seq * hidden});
    work.activations.push_back({up, 2.0 * seq * static_cast<double>(c.intermediate_size)});
  }
  const std::string decoder = c.tie_word_embeddings ? words : "cls.predictions.decoder.weight";
  const double rows = seq * labelled;
  work.products.push_back({.weight = "cls.predictions.transform.dense.weight",
                           .rows = rows,
                           .input = ++input,
                           .consumer = {}});
  work.products.push_back(
      {.weight = decoder, .rows = rows, .input = ++input, .consumer = std::string(Product::kLoss)});
  work.activations.push_back({decoder, rows * static_cast<double>(c.vocab_size)});
  return work;
}

shard::Workload byte_lm_workload(const ByteLmConfig& c) {
  shard::Workload work;
  const auto seq = static_cast<double>(c.seq_len);
  const auto width = static_cast<double>(c.width);
  work.products.push_back(
      {.weight = "embedding.weight", .rows = seq, .lookup = true, .consumer = {}});
  int32_t input = 0;
  for (int64_t i = 0; i < c.layers; ++i) {
    const std::string layer = fmt::format("layers.{}.", i);
    const std::string qkv = layer + "attention.qkv.weight", out = layer + "attention.out.weight";
    const std::string up = layer + "mlp.up.weight", down = layer + "mlp.down.weight";
    work.products.push_back({.weight = qkv, .rows = seq, .input = ++input, .consumer = out});
    work.products.push_back({.weight = out, .rows = seq, .input = ++input, .consumer = {}});
    work.products.push_back({.weight = up, .rows = seq, .input = ++input, .consumer = down});
    work.products.push_back({.weight = down, .rows = seq, .input = ++input, .consumer = {}});
    work.attention.push_back({qkv, 6.0 * seq * seq * width});  // causal: half
    work.activations.push_back({"", 4.0 * seq * width});
    work.activations.push_back({qkv, 4.0 * seq * width});
    work.activations.push_back({up, seq * static_cast<double>(c.ffn)});  // relu keeps its result
  }
  work.products.push_back({.weight = "decoder.weight",
                           .rows = seq,
                           .input = ++input,
                           .consumer = std::string(Product::kLoss)});
  work.activations.push_back({"decoder.weight", seq * static_cast<double>(c.vocab)});
  return work;
}

std::optional<BertConfig> named_bert(std::string_view name) {
  constexpr std::string_view kPrefix = "bert-";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  BertConfig config;
  name.remove_prefix(kPrefix.size());
  if (name == "base") return config;
  const char* end = name.data() + name.size();
  const auto layers = std::from_chars(name.data(), end, config.num_hidden_layers);
  constexpr std::string_view kBetween = "l-";
  const std::string_view rest(layers.ptr, static_cast<size_t>(end - layers.ptr));
  if (layers.ec != std::errc() || !rest.starts_with(kBetween)) return std::nullopt;
  const auto hidden = std::from_chars(layers.ptr + kBetween.size(), end, config.hidden_size);
  if (hidden.ec != std::errc() ||
      std::string_view(hidden.ptr, static_cast<size_t>(end - hidden.ptr)) != "h") {
    return std::nullopt;
  }
  if (config.hidden_size <= 0 || config.hidden_size > (int64_t{1} << 24)) return std::nullopt;
  config.num_attention_heads =
      std::max<int64_t>(1, config.hidden_size / (config.hidden_size > 1024 ? 128 : 64));
  config.intermediate_size = 4 * config.hidden_size;
  return config;
}

}  // namespace espalier::models
