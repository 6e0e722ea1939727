// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "espalier/extract/job.h"
#include "espalier/io/json.h"
#include "espalier/io/safetensors.h"
#include "espalier/models/qwen2_folder.h"

namespace espalier::extract {

namespace fs = std::filesystem;
inline const fs::path kTokenizer = fs::path(ESPALIER_SOURCE_DIR) / "tests/goldens/tokenizers/qwen2";

/// A tiny Qwen2 with random weights, and a dataset of token ids.
class ExtractTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(::testing::TempDir()) / fmt::format("espalier-extract-{}", ::getpid());
    fs::remove_all(folder_);
    const int64_t vocab = text::Tokenizer::open(kTokenizer).vocab_size();
    models::init_qwen2(folder_ / "model",
                       {.vocab_size = vocab,
                        .hidden_size = 16,
                        .num_hidden_layers = 2,
                        .num_attention_heads = 2,
                        .num_key_value_heads = 1,
                        .intermediate_size = 24,
                        .max_position_embeddings = 128,
                        .initializer_range = 0.5},
                       7);
    std::mt19937 random(11);
    std::ofstream file(folder_ / "tokens.jsonl");
    for (int line = 0; line < kSamples; ++line) {
      file << R"({"tokens": [)";
      const int count = 1 + static_cast<int>(random() % 60);
      for (int i = 0; i < count; ++i) {
        file << (i > 0 ? "," : "") << random() % static_cast<unsigned>(vocab);
      }
      file << "]}\n";
    }
  }
  void TearDown() override { fs::remove_all(folder_); }

  ExtractOptions options(const std::string& output) const {
    ExtractOptions o;
    o.model = (folder_ / "model").string();
    o.tokenizer = kTokenizer.string();
    o.output = (folder_ / output).string();
    o.source.files = {folder_ / "tokens.jsonl"};
    o.source.max_seq_length = 64;
    o.batch.rows = 3;
    o.activation = "residual,mlp,attn,resid_mid.*";
    o.store_dtype = DType::f32;
    o.shard_tokens = 150;
    o.compile.threads = 1;
    return o;
  }
  ExtractReport run(const ExtractOptions& o) const { return run_extract(o, {}); }

  /// File name to contents of all shards.
  static std::map<std::string, std::string> shards_of(const ExtractOptions& o) {
    std::map<std::string, std::string> shards;
    if (!fs::exists(fs::path(o.output) / "shards")) return shards;
    for (const auto& entry : fs::directory_iterator(fs::path(o.output) / "shards")) {
      // What a killed writer left behind has a hidden name.
      if (entry.path().filename().string().starts_with('.')) continue;
      std::ifstream file(entry.path());
      shards[entry.path().filename()] = {std::istreambuf_iterator<char>(file), {}};
    }
    return shards;
  }

  /// "HOOK of SAMPLE" to values, of all shards.
  static std::map<std::string, std::vector<double>> samples_of(const ExtractOptions& o) {
    std::map<std::string, std::vector<double>> samples;
    for (const auto& [name, bytes] : shards_of(o)) {
      const auto file = io::SafetensorsFile::open(fs::path(o.output) / "shards" / name);
      const auto ids = nlohmann::json::parse(file.metadata().at("sample_ids"));
      const HostTensor offsets = file.tensor("offsets");
      for (const io::SafetensorsEntry& entry : file.entries()) {
        if (entry.shape.rank() != 2) continue;
        const std::vector<double> all = file.tensor(entry.name).to_doubles();
        const int64_t width = entry.shape[1];
        for (size_t i = 0; i < ids.size(); ++i) {
          const auto rows = offsets.as<int64_t>().subspan(i, 2);
          samples[fmt::format("{} of {}", entry.name, ids[i].get<std::string>())] = {
              all.begin() + rows[0] * width, all.begin() + rows[1] * width};
        }
      }
    }
    return samples;
  }

  static constexpr int kSamples = 40;
  fs::path folder_;
};

}  // namespace espalier::extract
