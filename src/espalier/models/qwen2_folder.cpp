// SPDX-License-Identifier: Apache-2.0
#include "espalier/models/qwen2_folder.h"

#include "espalier/nn/weights.h"

namespace espalier::models {

Qwen2Folder load_qwen2(const std::filesystem::path& folder) {
  Qwen2Folder result{.config = read_qwen2_config(folder / "config.json"), .weights = {}};
  result.weights = load_qwen2_weights(folder, result.config);
  return result;
}

io::LoadedWeights load_qwen2_weights(const std::filesystem::path& folder,
                                     const Qwen2Config& config) {
  return nn::load_weights(Qwen2ForCausalLm(config), folder, {.ignored = {"*.rotary_emb.inv_freq"}});
}

void save_qwen2(const std::filesystem::path& folder, const Qwen2Config& config,
                const std::map<std::string, HostTensor>& tensors, io::SaveWeightsOptions options) {
  options.files["config.json"] = qwen2_config_json(config, options.dtype);
  io::save_weights(folder, tensors, options);
}

void init_qwen2(const std::filesystem::path& folder, const Qwen2Config& config, uint64_t seed,
                io::SaveWeightsOptions options) {
  std::map<std::string, HostTensor> tensors;
  const Qwen2ForCausalLm model(config);
  nn::for_each_param(model, [&](std::string_view path, const nn::Param& p) {
    HostTensor values(options.dtype, p.shape);
    nn::fill(p.init, seed, path, values);
    tensors.emplace(path, values);
  });
  save_qwen2(folder, config, tensors, std::move(options));
}

}  // namespace espalier::models
