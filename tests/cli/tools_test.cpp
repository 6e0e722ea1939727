// SPDX-License-Identifier: Apache-2.0
// dump, check, bench and peak, each through the real program.
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "espalier/ir/graph.h"
#include "tests/support/expect_ran.h"

namespace espalier::test {
namespace {

namespace fs = std::filesystem;

TEST(Dump, UnknownStagesNameTheNearest) {
  expect_error(run({"dump", "byte-lm", "--stage", "fusedd"}), 2,
               {"no stage \"fusedd\"", "nearest: fused"});
  expect_error(run({"dump", "bert", "--stage", "partitoin"}), 2, {"no stage \"partitoin\""});
  const Ran ran = run({"dump", "byte-lm", "--list"});
  EXPECT_NE(ran.out.find("traced\n"), std::string::npos);
  EXPECT_NE(ran.out.find("program\n"), std::string::npos);
  expect_error(
      run({"dump", "bert", "--config", "bert-1l-64h", "--stage", "fused", "--mesh", "data=2"}), 2,
      {"--mesh, --rule, --plan and --preset", "--stage fused is of one device"});
  expect_error(run({"dump", "bert", "--config", "bert-1l-64h", "--labels", "0"}), 2,
               {"--labels 0 must be positive"});
}

TEST(Dump, EveryStageOfEveryModelParsesBack) {
  std::istringstream stages(run({"dump", "byte-lm", "--list"}).out);
  std::map<std::string, std::set<std::string>> texts;
  for (std::string stage; std::getline(stages, stage);) {
    if (stage == "partition") continue;
    for (const std::string& model : {"byte-lm", "bert"}) {
      std::vector<std::string> arguments{"dump", model, "--stage", stage, "--dtype", "bfloat16"};
      const std::vector<std::string> sizes =
          model == "bert" ? std::vector<std::string>{"--config", "bert-1l-64h", "--batch",  "2",
                                                     "--seq",    "8",           "--labels", "4"}
                          : std::vector<std::string>{"--num-layer", "1", "--batch", "2"};
      arguments.insert(arguments.end(), sizes.begin(), sizes.end());
      const Ran ran = run(arguments);
      ASSERT_EQ(ran.code, 0) << model << " " << stage << ran.err;
      texts[model].insert(ran.out);
      if (stage == "program") continue;
      EXPECT_EQ(ir::print(ir::parse(ran.out)) + "\n", ran.out) << model << " " << stage;
    }
  }
  // Passes that find nothing to do leave the text as it is.
  for (const auto& [model, seen] : texts) EXPECT_GT(seen.size(), 8u) << model;
}

TEST(Dump, PartitionIsTheStepOfOneDeviceOfAMesh) {
  const Ran bert = run({"dump", "bert", "--config", "bert-1l-64h", "--batch", "4", "--seq", "8",
                        "--labels", "8", "--mesh", "data=2,model=1", "--preset", "bert-tp"});
  EXPECT_EQ(bert.code, 0) << bert.err;
  EXPECT_NE(bert.out.find("# every device of data=2,model=1\n"), std::string::npos) << bert.out;
  EXPECT_NE(bert.out.find("# all-reduce over data, gradients: 26 of "), std::string::npos);
  EXPECT_NE(bert.out.find("graph train_step {"), std::string::npos);
  const Ran bytes = run({"dump", "byte-lm", "--stage", "partition", "--num-layer", "1", "--batch",
                         "4", "--mesh", "data=2", "--preset", "fsdp"});
  EXPECT_EQ(bytes.code, 0) << bytes.err;
  EXPECT_NE(bytes.out.find("# reduce-scatter over data, gradients: "), std::string::npos);
  expect_error(run({"dump", "byte-lm", "--stage", "partition"}), 2,
               {"stage partition needs a mesh of several devices"});
  expect_error(run({"dump", "byte-lm", "--stage", "partition", "--mesh", "data=3"}), 2,
               {"axis data of 3 devices does not divide dimension 0 of [100,256]"});
}

TEST(Check, ComparesWithAReference) {
  const std::string golden = std::string(ESPALIER_SOURCE_DIR) + "/tests/goldens/byte_lm_tiny";
  const Ran ran = run({"check", golden, "--backend", "interp", "--json"});
  EXPECT_EQ(ran.code, 0) << ran.out << ran.err;
  EXPECT_NE(ran.out.find("\"check\":\"logits\""), std::string::npos);
  expect_error(run({"check", "/no/such/folder"}), 2, {"/no/such/folder"});

  // Another learning rate than the reference's: the steps differ, logits and gradients do not.
  Folder folder;
  for (const auto& file : fs::directory_iterator(golden)) fs::copy(file, folder.path());
  auto expected = nlohmann::json::parse(read_file(folder / "expected.json"));
  expected["optimizer"]["lr"] = 0.002;
  std::ofstream(folder / "expected.json") << expected;
  const Ran differs = run({"check", folder.path().string(), "--backend", "interp"});
  EXPECT_EQ(differs.code, 1) << differs.err;
  EXPECT_NE(differs.out.find("ok    logits "), std::string::npos) << differs.out;
  EXPECT_NE(differs.out.find("FAIL  after.decoder.weight "), std::string::npos) << differs.out;
  EXPECT_NE(differs.out.find("byte_lm differs: "), std::string::npos) << differs.out;
}

TEST(Bench, PrintsTheKeysThatScriptsRead) {
  const Ran ran = run({"bench", "byte-lm", "--num-layer", "1", "--d-model", "32", "--heads", "2",
                       "--ffn", "64", "--seq-len", "32", "--batch", "2", "--steps", "3", "--json"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  const auto line = nlohmann::json::parse(ran.out);
  for (const char* key :
       {"bench", "model", "dtype", "compile", "flash", "batch", "sequences_per_second", "gflops",
        "peak_gflops", "share_of_peak", "compile_seconds_cold", "compile_seconds_cached",
        "host_us_per_step", "memory_predicted_bytes", "memory_peak_bytes"}) {
    EXPECT_TRUE(line.contains(key)) << key;
  }
  EXPECT_EQ(line.at("bench"), "byte-lm");
  EXPECT_EQ(line.at("dtype"), "float32");
  EXPECT_GT(line.at("sequences_per_second").get<double>(), 0.0);
}

/// Steps large enough that the program's own few megabytes do not count.
TEST(Bench, MemoryIsWithinFivePercentOfThePrediction) {
  const std::vector<std::vector<std::string>> steps{
      {"byte-lm", "--num-layer", "2", "--batch", "4"},
      {"byte-lm", "--num-layer", "2", "--batch", "4", "--dtype", "bfloat16"},
      {"byte-lm", "--num-layer", "2", "--batch", "4", "--compile", "0", "--flash", "0"},
      {"bert", "--layers", "2", "--hidden", "256", "--batch", "4", "--seq", "128"}};
  for (const std::vector<std::string>& step : steps) {
    std::vector<std::string> arguments{"bench"};
    arguments.insert(arguments.end(), step.begin(), step.end());
    for (const char* more : {"--steps", "1", "--warmup", "1", "--threads", "2", "--json"}) {
      arguments.emplace_back(more);
    }
    const Ran ran = run(arguments);
    ASSERT_EQ(ran.code, 0) << ran.err;
    const auto line = nlohmann::json::parse(ran.out);
    const double predicted = line.at("memory_predicted_bytes");
    const double measured = line.at("memory_peak_bytes");
    EXPECT_GT(predicted, 150e6) << ran.out;
    EXPECT_NEAR(measured, predicted, 0.05 * predicted) << ran.out;
  }
}

TEST(Peak, PrintsOneObject) {
  const Ran ran = run({"peak", "--json", "--seconds", "0.01", "--disk-folder", ""});
  ASSERT_EQ(ran.code, 0) << ran.err;
  const auto line = nlohmann::json::parse(ran.out);
  EXPECT_GT(line.at("f32").at("fma_all_gflops").get<double>(), 0.0);
}

}  // namespace
}  // namespace espalier::test
