// SPDX-License-Identifier: Apache-2.0
// Which files of a Hugging Face folder hold weights.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/io/safetensors.h"

namespace espalier::io {

inline constexpr std::string_view kWeightFile = "model.safetensors";
inline constexpr std::string_view kWeightIndex = "model.safetensors.index.json";

struct WeightFiles {
  std::vector<SafetensorsFile> files;
  /// Where the index and the shards disagree about a tensor.
  std::vector<std::string> index_problems;
};

/// `path` is one .safetensors file or a folder: its model.safetensors, else the shards that its
/// index names. Throws `data` for an index that cannot be read or that names files elsewhere,
/// `unsupported` where only other formats are there, `user` where there are no weights.
WeightFiles open_weight_files(const std::filesystem::path& path);

/// "model-00002-of-00007.safetensors".
std::string shard_name(size_t index, size_t count);
/// Whether a folder of weights has files of this name: weights, index, config.json and the like.
bool belongs_to_weights(std::string_view name);

}  // namespace espalier::io
