// SPDX-License-Identifier: Apache-2.0
#include "espalier/io/weights_files.h"

#include <fmt/format.h>

#include <map>
#include <set>

#include "espalier/base/glob.h"
#include "espalier/io/json.h"

namespace espalier::io {
namespace {

namespace fs = std::filesystem;
constexpr std::string_view kStage = "weights";
constexpr int64_t kIndexLimit = int64_t{256} << 20;

/// tensor -> file.
std::map<std::string, std::string> read_index(const fs::path& path) {
  const std::string text = read_text(path, kIndexLimit, {.stage = std::string(kStage)});
  const auto json = try_parse_json(text);
  const auto map = json.is_object() ? json.find("weight_map") : json.end();
  ESPALIER_CHECK(json.is_object() && map != json.end() && map->is_object() && !map->empty(),
                 ErrorKind::data, kStage, "no weight_map of tensors and files, at {}",
                 path.string());
  std::map<std::string, std::string> files;
  for (const auto& [tensor, file] : map->items()) {
    const std::string name = file.is_string() ? file.get<std::string>() : std::string();
    ESPALIER_CHECK(fs::path(name).filename().string() == name && name.ends_with(".safetensors"),
                   ErrorKind::data, kStage,
                   "weight_map puts {} into {}, which is no .safetensors file of this folder, at "
                   "{}",
                   tensor, file.dump(), path.string());
    files.emplace(tensor, name);
  }
  return files;
}

WeightFiles open_shards(const fs::path& folder) {
  const fs::path index_path = folder / kWeightIndex;
  const std::map<std::string, std::string> index = read_index(index_path);
  std::set<std::string> names;
  for (const auto& [tensor, file] : index) names.insert(file);
  std::vector<std::string> absent;
  for (const std::string& name : names) {
    std::error_code ignored;
    if (!fs::exists(folder / name, ignored)) absent.push_back(name);
  }
  ESPALIER_CHECK(absent.empty(), ErrorKind::data, kStage,
                 "{} of {} files of weights are not there: {}; listed in {}", absent.size(),
                 names.size(), fmt::join(absent, ", "), index_path.string());
  WeightFiles result;
  std::set<std::string> seen;
  for (const std::string& name : names) {
    result.files.push_back(SafetensorsFile::open(folder / name));
    for (const SafetensorsEntry& entry : result.files.back().entries()) {
      const auto at = index.find(entry.name);
      if (at == index.end()) {
        result.index_problems.push_back(fmt::format("{}:{} is not in the index", name, entry.name));
      } else if (at->second != name) {
        result.index_problems.push_back(
            fmt::format("{} is in {}, the index says {}", entry.name, name, at->second));
      }
      seen.insert(entry.name);
    }
  }
  for (const auto& [tensor, file] : index) {
    if (!seen.contains(tensor)) {
      result.index_problems.push_back(fmt::format("{} is not in {}", tensor, file));
    }
  }
  return result;
}

}  // namespace

WeightFiles open_weight_files(const fs::path& path) {
  std::error_code ignored;
  ESPALIER_CHECK(fs::exists(path, ignored), ErrorKind::user, kStage, "{} does not exist",
                 path.string());
  if (!fs::is_directory(path, ignored)) return {{SafetensorsFile::open(path)}, {}};
  if (fs::exists(path / kWeightFile, ignored)) {
    return {{SafetensorsFile::open(path / kWeightFile)}, {}};
  }
  if (fs::exists(path / kWeightIndex, ignored)) return open_shards(path);
  for (const char* other :
       {"pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "flax_model.msgpack"}) {
    ESPALIER_CHECK(!fs::exists(path / other, ignored), ErrorKind::unsupported, kStage,
                   "{} has {} but no {}; save it again with safe_serialization=True", path.string(),
                   other, kWeightFile);
  }
  fail(ErrorKind::user, kStage, "{} has neither {} nor {}", path.string(), kWeightFile,
       kWeightIndex);
}

std::string shard_name(size_t index, size_t count) {
  return fmt::format("model-{:05}-of-{:05}.safetensors", index + 1, count);
}

bool belongs_to_weights(std::string_view name) {
  for (const char* pattern :
       {"model.safetensors", "model-[0-9]*-of-[0-9]*.safetensors", "*.index.json", "config.json",
        "generation_config.json", "tokenizer*.json", "vocab.txt", "vocab.json", "merges.txt",
        "special_tokens_map.json", "added_tokens.json", "README.md"}) {
    if (Glob(pattern).matches(name)) return true;
  }
  return false;
}

}  // namespace espalier::io
