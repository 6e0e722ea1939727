// SPDX-License-Identifier: Apache-2.0
#include "tests/torture/inputs.h"

#include <fmt/format.h>

#include <fstream>
#include <random>

#include "espalier/base/error.h"
#include "tests/support/program.h"

namespace espalier::torture {
namespace {

namespace fs = std::filesystem;
using Random = std::mt19937_64;

constexpr int kVariants = 2;  // --predictions-per-task below
constexpr int kVocab = 603;   // of the tokenizer below
const fs::path kTokenizer = fs::path(ESPALIER_SOURCE_DIR) / "tests/goldens/tokenizers/qwen2";

int64_t pick(Random& random, int64_t first, int64_t last) {
  return first + static_cast<int64_t>(random() % static_cast<uint64_t>(last - first + 1));
}

std::string grid(Random& random) {
  const int64_t height = pick(random, 1, 5), width = pick(random, 1, 5);
  std::string text = "[";
  for (int64_t row = 0; row < height; ++row) {
    text += row > 0 ? ",[" : "[";
    for (int64_t column = 0; column < width; ++column) {
      text += fmt::format("{}{}", column > 0 ? "," : "", pick(random, 0, 9));
    }
    text += "]";
  }
  return text + "]";
}

void write_tasks(const fs::path& path, int64_t count, Random& random,
                 std::vector<WantedSample>& samples) {
  std::ofstream file(path);
  for (int64_t task = 0; task < count; ++task) {
    const std::string id = fmt::format("task-{}", task);
    std::string train, test;
    for (int64_t i = pick(random, 1, 3); i > 0; --i) {
      train += fmt::format(R"({{"input":{},"output":{}}}{})", grid(random), grid(random),
                           i > 1 ? "," : "");
    }
    const int64_t tests = pick(random, 1, 2);
    for (int64_t i = tests; i > 0; --i) {
      test += fmt::format(R"({{"input":{}}}{})", grid(random), i > 1 ? "," : "");
    }
    file << fmt::format(R"({{"task_id":"{}","train":[{}],"test":[{}]}})", id, train, test) << "\n";
    for (int variant = 0; variant < kVariants; ++variant) {
      for (int64_t t = 0; t < tests; ++t) {
        samples.push_back({.id = fmt::format("{}/{}/{}", id, variant, t), .tokens = {}});
      }
    }
  }
}

void write_texts(const fs::path& path, int64_t count, Random& random,
                 std::vector<WantedSample>& samples) {
  constexpr const char* kWords[] = {"a",   "tree", "trained", "along",
                                    "its", "plan", "Ünïcode", "42"};
  std::ofstream file(path);
  for (int64_t line = 0; line < count; ++line) {
    samples.push_back({.id = fmt::format("text-{}", line), .tokens = {}});
    std::string text = "once";
    for (int64_t i = pick(random, 0, 80); i > 0; --i) {
      text += fmt::format(" {}", kWords[random() % std::size(kWords)]);
    }
    file << fmt::format(R"({{"id":"{}","text":"{}"}})", samples.back().id, text) << "\n";
  }
}

/// Lengths from one token to more than a row.
void write_tokens(const fs::path& path, int64_t count, Random& random,
                  std::vector<WantedSample>& samples) {
  std::ofstream file(path);
  for (int64_t line = 0; line < count; ++line) {
    WantedSample sample{.id = fmt::format("tokens-{}", line), .tokens = {}};
    for (int64_t i = pick(random, 1, 600); i > 0; --i) {
      sample.tokens.push_back(static_cast<int32_t>(pick(random, 0, kVocab - 1)));
    }
    file << fmt::format(R"({{"id":"{}","tokens":[{}]}})", sample.id, fmt::join(sample.tokens, ","))
         << "\n";
    samples.push_back(std::move(sample));
  }
}

}  // namespace

Inputs make_inputs(const fs::path& folder, int64_t size, uint64_t seed) {
  Inputs inputs{.model = folder / "model",
                .tokenizer = kTokenizer,
                .files = {folder / "tasks.jsonl", folder / "texts.jsonl", folder / "tokens.jsonl"},
                .arguments = {},
                .samples = {}};
  const test::Ran made =
      test::run({"init", "qwen2", inputs.model, "--seed", std::to_string(seed), "--dtype",
                 "float32", "--hidden", "32", "--num-layer", "2", "--heads", "2", "--kv-heads", "1",
                 "--ffn", "64", "--vocab-size", std::to_string(kVocab)});
  ESPALIER_CHECK(made.code == 0, ErrorKind::check, "torture", "espalier init: {}", made.err);
  Random random(seed);
  write_tasks(inputs.files[0], std::max<int64_t>(1, size / 3), random, inputs.samples);
  write_texts(inputs.files[1], size * 2, random, inputs.samples);
  write_tokens(inputs.files[2], size * 2, random, inputs.samples);
  inputs.arguments = {"extract",     "--model",        inputs.model,
                      "--tokenizer", inputs.tokenizer, "--dataset"};
  inputs.arguments.insert(inputs.arguments.end(), inputs.files.begin(), inputs.files.end());
  for (const char* more : {"--activation", "residual,mlp,attn,resid_mid.*", "--max-seq-length",
                           "512", "--length-policy", "window", "--predictions-per-task", "2",
                           "--batch-size", "2", "--threads", "1", "--shard-tokens", "1000"}) {
    inputs.arguments.emplace_back(more);
  }
  return inputs;
}

}  // namespace espalier::torture
