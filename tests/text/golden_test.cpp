// SPDX-License-Identifier: Apache-2.0
// Ids and texts of the library `tokenizers`: tests/goldens/tokenizers (made by make_tokenizers.py),
// and real tokenizers where ../shared is there.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "espalier/text/tokenizer.h"

namespace espalier::text {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<int32_t>;
const fs::path kGoldens = fs::path(ESPALIER_SOURCE_DIR) / "tests/goldens/tokenizers";
const fs::path kShared = fs::path(ESPALIER_SOURCE_DIR) / "../shared/data/tokenizers";

nlohmann::json read_json(const fs::path& path) {
  std::ifstream file(path);
  return nlohmann::json::parse(std::string(std::istreambuf_iterator<char>(file), {}));
}

class Golden : public ::testing::TestWithParam<std::string> {};

TEST_P(Golden, IdsAndTexts) {
  const Tokenizer tokenizer = Tokenizer::open(kGoldens / GetParam());
  Workspace work;
  int64_t count = 0;
  for (const auto& item : read_json(kGoldens / GetParam() / "texts.json")) {
    const auto text = item.at("text").get<std::string>();
    SCOPED_TRACE(item.at("text").dump());
    Ids ids, plain;
    // One workspace for all of them: the cache of words must not change a thing.
    EXPECT_EQ(tokenizer.encode(text, {}, work, ids), 0);
    tokenizer.encode(text, {.special = false}, work, plain);
    EXPECT_EQ(ids, item.at("ids").get<Ids>());
    EXPECT_EQ(plain, item.at("plain").get<Ids>());
    EXPECT_EQ(tokenizer.decode(ids), item.at("decoded").get<std::string>());
    EXPECT_EQ(tokenizer.decode(ids, true), item.at("decoded_plain").get<std::string>());
    ++count;
  }
  EXPECT_GT(count, 150);
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, Golden,
                         ::testing::Values("bert", "bert_cased", "bert_plain", "gpt2", "llama3",
                                           "qwen2", "qwen2_added"),
                         [](const auto& info) { return info.param; });

TEST(Shared, Qwen2) {
  if (!fs::exists(kShared)) GTEST_SKIP() << "../shared is absent";
  const Tokenizer tokenizer = Tokenizer::open(kShared / "qwen2");
  EXPECT_EQ(tokenizer.vocab_size(), 151646);
  const auto all = read_json(kShared / "qwen2/hf_vectors.json");
  int64_t texts = 0;
  for (const auto& item : all.at("cases")) {
    SCOPED_TRACE(item.at("name").get<std::string>());
    const auto ids = item.at("ids").get<Ids>();
    // Bytes that are no UTF-8 have ids, but no text encodes to them.
    if (item.contains("text")) {
      const auto text = item.at("text").get<std::string>();
      EXPECT_EQ(tokenizer.encode(text, {.special = false}), ids);
      EXPECT_EQ(tokenizer.encode(text), item.at("ids_with_special").get<Ids>());
      ++texts;
    }
    EXPECT_EQ(tokenizer.decode(ids), item.at("decoded").get<std::string>());
    EXPECT_EQ(tokenizer.decode(ids, true), item.at("decoded_skip_special").get<std::string>());
  }
  EXPECT_GT(texts, 20);
}

TEST(Shared, Bert) {
  if (!fs::exists(kShared)) GTEST_SKIP() << "../shared is absent";
  const Tokenizer json = Tokenizer::open(kShared / "bert");
  const Tokenizer lines = Tokenizer::open(kShared / "bert/vocab.txt");
  EXPECT_EQ(json.vocab_size(), 30522);
  EXPECT_EQ(lines.vocab_size(), 30522);
  const auto all = read_json(kShared / "hf_tokenizer_tests.json");
  int64_t count = 0;
  for (const char* name : {"bert-base-uncased", "google-bert/bert-base-uncased"}) {
    for (const auto& item : all.at(name)) {
      if (!item.at("input").is_string()) continue;  // pairs of texts
      const auto text = item.at("input").get<std::string>();
      SCOPED_TRACE(text);
      // The texts there are cleaned up as a whole, which `transformers` does and `tokenizers` not.
      const auto ids = item.at("encoded").at("input_ids").get<Ids>();
      EXPECT_EQ(json.encode(text), ids);
      EXPECT_EQ(lines.encode(text), ids);
      ++count;
    }
  }
  EXPECT_GT(count, 10);
}

}  // namespace
}  // namespace espalier::text
