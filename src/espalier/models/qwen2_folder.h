// SPDX-License-Identifier: Apache-2.0
// Qwen2 from and to Hugging Face folders: config.json and weights.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "espalier/io/weights.h"
#include "espalier/models/qwen2.h"

namespace espalier::models {

struct Qwen2Folder {
  Qwen2Config config;
  io::LoadedWeights weights;
};

/// Reads config.json and finds the weights; see io::load_weights for what is refused.
Qwen2Folder load_qwen2(const std::filesystem::path& folder);
/// The weights alone, for a configuration that is known.
io::LoadedWeights load_qwen2_weights(const std::filesystem::path& folder,
                                     const Qwen2Config& config);

/// Writes config.json and the weights. `tensors` has every leaf of the tree by path.
void save_qwen2(const std::filesystem::path& folder, const Qwen2Config& config,
                const std::map<std::string, HostTensor>& tensors,
                io::SaveWeightsOptions options = {});

/// A checkpoint of initial values: the same for the same seed, whatever the machine.
void init_qwen2(const std::filesystem::path& folder, const Qwen2Config& config, uint64_t seed,
                io::SaveWeightsOptions options = {});

}  // namespace espalier::models
