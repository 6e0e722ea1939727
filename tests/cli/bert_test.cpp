// SPDX-License-Identifier: Apache-2.0
// espalier bench bert, bench step-overhead and convert through the real program.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/support/program.h"

namespace espalier::test {
namespace {

using ::testing::HasSubstr;
const std::string kGolden = std::string(ESPALIER_SOURCE_DIR) + "/tests/goldens/bert_tanh";

TEST(BenchBert, PrintsTheKeysThatScriptsRead) {
  const Ran ran =
      run({"bench", "bert", "--layers", "2", "--hidden", "32", "--heads", "2", "--batch", "2",
           "--seq", "32", "--steps", "2", "--dropout", "0.1", "--remat", "layer.*.mlp", "--json"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  const auto line = nlohmann::json::parse(ran.out);
  for (const char* key : {"bench",
                          "model",
                          "dtype",
                          "compile",
                          "flash",
                          "batch",
                          "sequences_per_second",
                          "gflops",
                          "peak_gflops",
                          "share_of_peak",
                          "compile_seconds_cold",
                          "compile_seconds_cached",
                          "host_us_per_step",
                          "memory_predicted_bytes",
                          "memory_peak_bytes",
                          "process_peak_bytes",
                          "layers",
                          "seq",
                          "dropout",
                          "attention"}) {
    EXPECT_TRUE(line.contains(key)) << key;
  }
  EXPECT_EQ(line.at("bench"), "bert");
  EXPECT_EQ(line.at("attention"), "fused");
  EXPECT_EQ(line.at("labels"), 9);
  EXPECT_GT(line.at("share_of_peak").get<double>(), 0.0);
}

TEST(BenchBert, FlagsAreChecked) {
  EXPECT_THAT(run({"bench", "bert", "--attention", "fussed"}).err,
              HasSubstr("--attention fussed is neither fused nor eager; nearest: fused"));
  EXPECT_THAT(run({"bench", "bert", "--html", "x.html"}).err,
              HasSubstr("--html draws the curves of --growth"));
  EXPECT_THAT(run({"bench", "bert", "--steps", "0", "--layers", "1", "--hidden", "8"}).err,
              HasSubstr("--steps 0 must be positive"));
  EXPECT_THAT(run({"bench", "bert", "--batch", "0"}).err, HasSubstr("--batch 0 and --seq 512"));
}

TEST(BenchOverhead, LeavesGrowAndTheHostsWorkDoesNot) {
  const Ran ran = run({"bench", "step-overhead", "--steps", "3", "--pairs", "1", "--json"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  std::istringstream lines(ran.out);
  std::vector<nlohmann::json> found;
  for (std::string line; std::getline(lines, line);) found.push_back(nlohmann::json::parse(line));
  ASSERT_EQ(found.size(), 7u);
  EXPECT_EQ(found[0].at("leaves"), 42 * 3 + 2);
  EXPECT_EQ(found[3].at("leaves"), 202 * 3 + 2);
  EXPECT_EQ(found[4].at("leaves"), 1610 * 3 + 2);
  for (size_t i = 0; i < 5; ++i) EXPECT_TRUE(found[i].contains("host_us_per_step"));
  for (size_t i = 5; i < 7; ++i) EXPECT_EQ(found[i].at("same_program"), true);
}

TEST(Convert, WritesAFolderWithAnotherDtype) {
  const Folder folder;
  const Ran ran =
      run({"convert", kGolden, folder / "out", "--dtype", "bfloat16", "--max-shard-size", "4KB"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("in 42 tensors"));
  EXPECT_TRUE(std::filesystem::exists(folder / "out/model.safetensors.index.json"));
  EXPECT_THAT(read_file(folder / "out/config.json"), HasSubstr("\"dtype\": \"bfloat16\""));
  const Ran again = run({"convert", folder / "out", folder / "back"});
  EXPECT_EQ(again.code, 0) << again.err;
  const Ran lost = run({"convert", kGolden, folder.path().string()});
  EXPECT_EQ(lost.code, 2);
  EXPECT_THAT(lost.err, HasSubstr("would be lost; choose another folder"));
  EXPECT_EQ(run({"convert", folder / "no", folder / "x"}).code, 2);
}

}  // namespace
}  // namespace espalier::test
