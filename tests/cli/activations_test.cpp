// SPDX-License-Identifier: Apache-2.0
// espalier verify, inspect, export and bench read through the real program.
#include <gtest/gtest.h>

#include <filesystem>

#include "espalier/io/json.h"
#include "tests/extract_shards/made_run.h"
#include "tests/support/program.h"

namespace espalier::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class ActivationsCommand : public ::testing::Test {
 protected:
  ActivationsCommand() {
    extract::MadeRun run({.shard = {.compression = extract::Compression::zstd}});
    run.write(*extract::open_folder_store(run_));
    tokens_ = run.tokens();
  }
  static bool has(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
  }

  Folder folder_;
  const std::string run_ = folder_ / "run";
  int64_t tokens_ = 0;
};

TEST_F(ActivationsCommand, VerifySaysWhatIsWrongAndItsCode) {
  Ran ran = run({"verify", run_});
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_TRUE(has(ran.out, "6 shards, 40 samples")) << ran.out;
  EXPECT_TRUE(has(ran.out, "every sample once, every checksum right")) << ran.out;
  fs::remove(run_ + "/" + extract::shard_key(2));
  ran = run({"verify", run_});
  EXPECT_EQ(ran.code, 1);
  EXPECT_TRUE(has(ran.out, "shard-00000002.safetensors is missing")) << ran.out;
  EXPECT_TRUE(has(ran.out, "1 damaged shards; the same extract command makes them again: 2"));
  ran = run({"verify", run_, "--json"});
  EXPECT_EQ(ran.code, 1);
  EXPECT_FALSE(json::parse(ran.out).at("pass").get<bool>());
  EXPECT_EQ(json::parse(ran.out).at("damaged").dump(), "[2]");
  ran = run({"verify", folder_ / "nothing"});
  EXPECT_EQ(ran.code, 2);
  EXPECT_TRUE(has(ran.err, "[run] ")) << ran.err;
  EXPECT_TRUE(has(ran.err, "run.json is missing: this is no run of extraction")) << ran.err;
}

TEST_F(ActivationsCommand, InspectShowsSettingsAndStatistics) {
  Ran ran = run({"inspect", run_});
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_TRUE(has(ran.out, "x compressed)")) << ran.out;
  EXPECT_TRUE(has(ran.out, "batch_size: 4")) << ran.out;
  ran = run({"inspect", run_, "--json", "--hooks", "resid_post.0"});
  const json about = json::parse(ran.out);
  EXPECT_EQ(about.at("hooks").size(), 1u);
  EXPECT_EQ(about.at("hooks")[0].at("tokens"), tokens_);
  EXPECT_EQ(about.at("hooks")[0].at("channels")[0].at("channel"), 3);
  EXPECT_EQ(run({"inspect", run_, "--hooks", "attn"}).code, 2);
}

TEST_F(ActivationsCommand, ExportAndBenchRead) {
  Ran ran = run({"export", run_, folder_ / "out", "--to", "sae-lens", "--context", "8", "--json"});
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(json::parse(ran.out).at("rows"), tokens_ / 8);
  ran = run({"export", run_, folder_ / "out2", "--to", "sae-lense"});
  EXPECT_EQ(ran.code, 2);
  EXPECT_TRUE(has(ran.err, "\"sae-lense\" is none of sae-lens")) << ran.err;
  ran = run({"bench", "read", run_, "--seconds", "0.2", "--json"});
  EXPECT_EQ(ran.code, 0) << ran.err;
  const json rates = json::parse(ran.out);
  EXPECT_EQ(rates.at("rows"), tokens_);
  for (const char* key : {"rows_per_second", "bytes_per_second", "disk_bytes_per_second",
                          "cached_bytes_per_second"}) {
    EXPECT_GT(rates.at(key).get<double>(), 0.0) << key;
  }
}

TEST_F(ActivationsCommand, BenchExtractMeasuresBothPasses) {
  const std::string model = folder_ / "model";
  ASSERT_EQ(run({"init", "qwen2", model, "--vocab-size", "64", "--num-layer", "2"}).code, 0);
  const Ran ran = run({"bench", "extract", "--model", model, "--batch", "1", "--seq", "16",
                       "--steps", "1", "--layers", "all", "--extract-batches", "8", "--threads",
                       "1", "--output", folder_ / "bench", "--json"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  const json rates = json::parse(ran.out);
  for (const char* key : {"tokens_per_second_forward", "tokens_per_second_extract", "share_of_peak",
                          "first_batch_seconds", "compiles", "memory_peak_bytes",
                          "bytes_written_per_second", "disk_bytes_per_second"}) {
    ASSERT_TRUE(rates.contains(key)) << key;
    EXPECT_GT(rates.at(key).get<double>(), 0.0) << key;
  }
}

}  // namespace
}  // namespace espalier::test
