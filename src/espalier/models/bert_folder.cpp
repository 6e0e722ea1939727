// SPDX-License-Identifier: Apache-2.0
#include "espalier/models/bert_folder.h"

#include "espalier/nn/weights.h"

namespace espalier::models {

io::WeightNames bert_weight_names() {
  return {
      .base_prefix = "bert.",
      .endings = {{"LayerNorm.gamma", "LayerNorm.weight"}, {"LayerNorm.beta", "LayerNorm.bias"}},
      .ignored = {"bert.embeddings.position_ids", "bert.pooler.*", "cls.seq_relationship.*"}};
}

BertFolder load_bert(const std::filesystem::path& folder, BertHeadIs head) {
  BertFolder result{.config = read_bert_config(folder / "config.json"), .weights = {}};
  io::WeightNames names = bert_weight_names();
  if (head == BertHeadIs::optional) names.optional = {"cls.*"};
  result.weights = nn::load_weights(BertForMaskedLm(result.config), folder, names);
  return result;
}

void save_bert(const std::filesystem::path& folder, const BertConfig& config,
               const std::map<std::string, HostTensor>& tensors, io::SaveWeightsOptions options) {
  const std::vector<io::WantedTensor> wanted = nn::wanted_tensors(BertForMaskedLm(config));
  ESPALIER_ASSERT(wanted.size() == tensors.size());
  for (const io::WantedTensor& w : wanted) {
    const auto at = tensors.find(w.path);
    ESPALIER_ASSERT(at != tensors.end() && at->second.shape() == w.shape);
  }
  options.files["config.json"] = bert_config_json(config, options.dtype);
  io::save_weights(folder, tensors, options);
}

ConvertResult convert_bert(const std::filesystem::path& from, const std::filesystem::path& to,
                           io::SaveWeightsOptions options) {
  constexpr int64_t kLimit = int64_t{256} << 20;
  const BertFolder loaded = load_bert(from);
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "vocab.txt",
                           "special_tokens_map.json", "added_tokens.json"}) {
    std::error_code ignored;
    if (!std::filesystem::exists(from / name, ignored)) continue;
    options.files[name] = io::read_text(from / name, kLimit, {.stage = "bert"});
  }
  save_bert(to, loaded.config, loaded.weights.tensors, std::move(options));
  ConvertResult result{.ignored = loaded.weights.ignored};
  for (const auto& [path, tensor] : loaded.weights.tensors) {
    ++result.tensors;
    result.parameters += tensor.numel();
  }
  return result;
}

}  // namespace espalier::models
