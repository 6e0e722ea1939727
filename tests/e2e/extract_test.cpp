// SPDX-License-Identifier: Apache-2.0
// From a training run to its activations, without a step between.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "espalier/io/safetensors.h"
#include "tests/support/program.h"

namespace espalier::test {
namespace {

TEST(ExtractFromARun, OfTheByteLmReadsBytes) {
  const Folder folder;
  Ran ran = run({"train",     "byte-lm", "--num-layer", "1",           "--d-model",     "32",
                 "--heads",   "2",       "--ffn",       "64",          "--seq-len",     "32",
                 "--batch",   "4",       "--steps",     "2",           "--peak-gflops", "100",
                 "--threads", "1",       "--save-dir",  folder / "run"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  const std::string text = "na\xc3\xafve";
  std::ofstream(folder / "texts.jsonl") << nlohmann::json{{"text", text}}.dump() << "\n";
  ran = run({"extract", "--model", folder / "run", "--dataset", folder / "texts.jsonl",
             "--activation", "residual", "--threads", "1", "--output", folder / "out"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  const auto shard = io::SafetensorsFile::open(folder / "out/shards/shard-00000000.safetensors");
  std::vector<double> ids;
  for (const char byte : text) ids.push_back(static_cast<unsigned char>(byte));
  EXPECT_EQ(shard.tensor("token_ids").to_doubles(), ids);
  EXPECT_EQ(shard.tensor("resid_post.0").shape(), (Shape{std::ssize(text), 32}));
  EXPECT_EQ(run({"verify", folder / "out"}).code, 0);
}

}  // namespace
}  // namespace espalier::test
