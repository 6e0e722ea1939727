// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/run_file.h"

#include <algorithm>

#include "espalier/backend/cpu/cpu_info.h"
#include "espalier/base/error.h"
#include "espalier/base/parallel.h"
#include "espalier/base/version.h"
#include "espalier/extract/grid_encoder.h"
#include "espalier/extract/prompt_template.h"
#include "espalier/extract/reader_model.h"
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
std::string checksum(const fs::path& path, const io::HashCache& hashes, const Wanted& wanted) {
  if (!fs::is_directory(path)) return hashes.sha256(path);
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(path)) {
    if (entry.is_regular_file() && wanted(entry.path().filename().string())) {
      files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  std::vector<std::string> sums(files.size());
  parallel_for(std::ssize(files), 0, [&](int64_t i) {
    sums[static_cast<size_t>(i)] = hashes.sha256(files[static_cast<size_t>(i)]);
  });
  std::string all;
  for (size_t i = 0; i < files.size(); ++i) {
    all += fmt::format("{} {}\n", sums[i], files[i].filename().string());
  }
  return io::sha256_hex(all);
}

std::string checksum(const PromptTemplate& p) {
  std::string all;
  for (const std::string* text :
       {&p.system, &p.user, &p.example, &p.test, &p.assistant, &p.turn, &p.end}) {
    all += fmt::format("{}\n{}\n", text->size(), *text);
  }
  return io::sha256_hex(all);
}

bool of_model(const std::string& name) {
  // A checkpoint's state.json stands for the configuration of a byte LM.
  return name == "config.json" || name == "state.json" || name.ends_with(".safetensors") ||
         name.ends_with(".safetensors.index.json");
}
bool of_tokenizer(const std::string& name) {
  return name == "tokenizer.json" || name == "tokenizer_config.json" || name == "vocab.txt" ||
         name == "vocab.json" || name == "merges.txt" || name == "added_tokens.json" ||
         name == "special_tokens_map.json";
}

}  // namespace

fs::path tokenizer_files(const ExtractOptions& o) {
  return o.tokenizer.empty() ? model_files(o.model) : fs::path(o.tokenizer);
}

Json describe_run(const ExtractOptions& o, const std::vector<std::string>& hooks,
                  const io::HashCache& hashes) {
  const SourceOptions& s = o.source;
  Json datasets = Json::array();
  for (const fs::path& file : s.files) datasets.push_back(checksum(file, hashes, is_dataset_file));
  return {{"format", "espalier-run-1"},
          {"version", std::string(version())},
          {"instruction_set", std::string(cpu::name(cpu::cpu_info().isa))},
          {"model", checksum(model_files(o.model), hashes, of_model)},
          {"tokenizer", checksum(tokenizer_files(o), hashes, of_tokenizer)},
          {"dataset", datasets},
          {"dataset_format", std::string(name(s.format))},
          {"hooks", hooks},
          {"dtype", std::string(name(o.compile.compute_dtype))},
          {"store_dtype", std::string(name(o.store_dtype))},
          {"compression", describe(o.shard.compression)},
          {"keep_not_finite", o.shard.keep_not_finite},
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
          {"grid_encoder", s.grid_encoder.empty() ? kDefaultGridEncoder : s.grid_encoder},
          {"prompt", checksum(prompt_template(s))},
          {"predictions_per_task", s.predictions_per_task},
          {"random_seed", s.random_seed}};
}

std::string run_file_text(const Json& run) { return run.dump(1) + "\n"; }

void claim_run(Store& store, const Json& run) {
  if (!store.create(kKey, run_file_text(run))) compare_run(store, run);
}

bool compare_run(Store& store, const Json& run) {
  const std::optional<std::string> text = store.get(kKey, kRunLimit);
  if (!text) return false;
  const Json there = io::try_parse_ordered_json(*text);
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
  return true;
}

}  // namespace espalier::extract
