// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/run_file.h"

#include <algorithm>

#include "espalier/base/error.h"
#include "espalier/base/version.h"
#include "espalier/io/sha256.h"

namespace espalier::extract {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr int64_t kRunLimit = int64_t{16} << 20;
constexpr const char* kKey = "run.json";

/// One checksum over the names and contents of files: of one file, or of those of a folder that
/// `wanted` takes.
template <typename Wanted>
std::string checksum(const fs::path& path, const Wanted& wanted) {
  if (!fs::is_directory(path)) return io::sha256_file(path);
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(path)) {
    if (entry.is_regular_file() && wanted(entry.path().filename().string())) {
      files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  std::string all;
  for (const fs::path& file : files) {
    all += fmt::format("{} {}\n", io::sha256_file(file), file.filename().string());
  }
  return io::sha256_hex(all);
}

bool of_model(const std::string& name) {
  return name == "config.json" || name.ends_with(".safetensors") ||
         name.ends_with(".safetensors.index.json");
}
bool of_tokenizer(const std::string& name) {
  return name == "tokenizer.json" || name == "tokenizer_config.json" || name == "vocab.txt" ||
         name == "vocab.json" || name == "merges.txt" || name == "added_tokens.json" ||
         name == "special_tokens_map.json";
}
bool is_json(const std::string& name) { return name.ends_with(".json"); }

}  // namespace

Json describe_run(const ExtractOptions& o, const ReaderModel& model) {
  const SourceOptions& s = o.source;
  Json datasets = Json::array();
  for (const fs::path& file : s.files) datasets.push_back(checksum(file, is_json));
  return {{"format", "espalier-run-1"},
          {"version", std::string(version())},
          {"model", checksum(o.model, of_model)},
          {"tokenizer", checksum(o.tokenizer.empty() ? o.model : o.tokenizer, of_tokenizer)},
          {"dataset", datasets},
          {"dataset_format", static_cast<int>(s.format)},
          {"hooks", model.hooks()},
          {"store_dtype", std::string(name(o.store_dtype))},
          {"compute_dtype", std::string(name(o.compile.compute_dtype))},
          {"backend", o.compile.backend},
          {"flash", o.compile.flash},
          {"fuse", o.compile.fuse},
          {"length_policy", std::string(name(s.length_policy))},
          {"max_seq_length", s.max_seq_length},
          {"skip_bad_lines", s.skip_bad_lines},
          {"max_tasks", s.max_tasks},
          {"batching", std::string(name(o.batch.batching))},
          {"batch_size", o.batch.rows},
          {"shard_tokens", o.shard_tokens},
          {"grid_encoder", s.grid_encoder},
          {"prompt_version", s.prompt_version},
          {"prompt_file", s.prompt_file.empty() ? "" : io::sha256_file(s.prompt_file)},
          {"predictions_per_task", s.predictions_per_task},
          {"random_seed", s.random_seed}};
}

void claim_run(Store& store, const Json& run) {
  if (store.create(kKey, run.dump(1) + "\n")) return;
  const Json there = Json::parse(store.get(kKey, kRunLimit).value_or(""), nullptr, false);
  ESPALIER_CHECK(there.is_object(), ErrorKind::data, "extract", "{} is damaged", store.where(kKey));
  std::vector<std::string> differ;
  for (const auto& [key, value] : run.items()) {
    const auto found = there.find(key);
    if (found != there.end() && *found == value) continue;
    differ.push_back(fmt::format("{} is {} there and {} now", key,
                                 found == there.end() ? "missing" : found->dump(), value.dump()));
  }
  ESPALIER_CHECK(differ.empty(), ErrorKind::user, "extract",
                 "{} is of another run: {}; use another --output", store.where(kKey),
                 fmt::join(differ, "; "));
}

}  // namespace espalier::extract
