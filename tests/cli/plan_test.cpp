// SPDX-License-Identifier: Apache-2.0
// espalier plan and espalier bench plans through the real program.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/support/expect_ran.h"

namespace espalier::test {
namespace {

namespace fs = std::filesystem;

std::string write(const std::string& path, const std::string& text) {
  std::ofstream(path) << text;
  return path;
}

TEST(PlanCommand, ReadsRulesFilesAndPresets) {
  const Folder folder;
  const Ran rules = run({"plan", "bert-4l-768h", "--mesh", "model=2", "--rule",
                         "*.intermediate.dense=column_parallel(model)", "--rule",
                         "*.output.dense=row_parallel(model)", "--json"});
  ASSERT_EQ(rules.code, 0) << rules.err;
  EXPECT_EQ(nlohmann::json::parse(rules.out)["hits"], 12);
  const std::string file = write(
      folder / "plan.toml", "[[rule]]\nmatch = '*.self.*'\napply = 'column_parallel(model)'\n");
  const Ran from_file =
      run({"plan", "bert-4l-768h", "--mesh", "model=2", "--plan", file, "--json"});
  ASSERT_EQ(from_file.code, 0) << from_file.err;
  EXPECT_EQ(nlohmann::json::parse(from_file.out)["hits"], 12);
  const Ran preset =
      run({"plan", "bert-100l-5120h", "--mesh", "data=8,model=8", "--preset", "bert-tp"});
  ASSERT_EQ(preset.code, 0) << preset.err;
  EXPECT_NE(preset.out.find("shadowed: rule 2 takes all 100 matches first"), std::string::npos);
  EXPECT_NE(preset.out.find("31.65B parameters in 1610 arrays (bert 31.62B, cls 26.3M)"),
            std::string::npos)
      << preset.out;
}

TEST(PlanCommand, ReadsAConfigFile) {
  const Folder folder;
  const std::string config = write(folder / "config.json", R"({"num_hidden_layers": 3})");
  const Ran good = run({"plan", config, "--json"});
  ASSERT_EQ(good.code, 0) << good.err;
  EXPECT_EQ(nlohmann::json::parse(good.out)["leaves"], 10 + 3 * 16);
  const std::string other =
      write(folder / "other.json", R"({"position_embedding_type": "rotary"})");
  expect_error(run({"plan", other}), 4, {"asks for what this model lacks", "\"rotary\""});
}

TEST(PlanCommand, SweepsAndDraws) {
  const Folder folder;
  const Ran sweep =
      run({"plan", "bert-base", "--preset", "bert-tp+fsdp", "--sweep", "8", "--device", "tpu-v5e"});
  ASSERT_EQ(sweep.code, 0) << sweep.err;
  EXPECT_NE(sweep.out.find("data=8,model=1"), std::string::npos) << sweep.out;
  const std::string html = folder / "plan.html";
  ASSERT_EQ(run({"plan", "bert-base", "--mesh", "data=2", "--preset", "fsdp", "--html", html}).code,
            0);
  EXPECT_GT(fs::file_size(html), 1000u);
}

TEST(PlanCommand, MakesTheShardsOfOneRank) {
  const Folder folder;
  const std::string file = folder / "rank.safetensors";
  const Ran made = run({"plan", "bert-2l-256h", "--mesh", "data=2,model=2", "--preset",
                        "bert-tp+fsdp", "--rank", "3", "--save", file});
  ASSERT_EQ(made.code, 0) << made.err;
  EXPECT_NE(made.out.find("rank 3 of 4: 126 tensors"), std::string::npos) << made.out;
  EXPECT_GT(fs::file_size(file), 1'000'000u);
}

TEST(PlanCommand, ErrorsHaveTheirCodes) {
  expect_error(run({"plan", "bert-base", "--mesh", "model=5", "--preset", "bert-tp"}), 2,
               {"axis model of 5 devices does not divide dimension 0 of [768,768], of size 768"});
  expect_error(run({"plan", "bert-base", "--mesh", "model=2", "--rule",
                    "*.intermediat.dense=column_parallel(model)"}),
               2, {"matches no module; nearest: bert.encoder.layer.0.intermediate.dense"});
  expect_error(run({"plan", "bert-base", "--mesh", "data=8", "--devices", "4"}), 2,
               {"the mesh data=8 needs 8 devices, there are 4"});
  expect_error(run({"plan", "--rank", "0"}), 2, {"--rank and --save go together"});
  expect_error(run({"plan", "--batch", "0"}), 2, {"--batch 0 must be positive"});
  expect_error(run({"plan", "--moments", "-1"}), 2, {"--moments -1 not negative"});
  expect_error(run({"plan", "--labelled", "3"}), 2, {"--labelled 3 is outside [0, 1]"});
  expect_error(run({"plan", "--sweep", "-2"}), 2, {"--sweep -2 must not be negative"});
  expect_error(run({"plan", "--sweep", "8", "--mesh", "data=2"}), 2,
               {"--sweep tries meshes of its own", "leave out --mesh"});
  expect_error(run({"plan", "--mesh", "data=2", "--html", "/nowhere/plan.html"}), 2,
               {"cannot create the file", "at /nowhere/plan.html"});
  expect_error(run({"plan", "bert-base", "--device", "h10"}), 2, {"nearest: h100"});
  expect_error(run({"plan", "bert-base", "--plan", "/nowhere.toml"}), 2,
               {"cannot read the plan file /nowhere.toml"});
  expect_error(run({"plan", "bert-base", "--mesh", "model=2", "--rule", "*.LayerNorm=freez"}), 2,
               {"no transform is called \"freez\"; nearest: freeze"});
}

TEST(BenchPlans, PrintsJsonLines) {
  const Ran ran = run({"bench", "plans", "--repeats", "1", "--module-opt-limit", "0", "--json"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(std::count(ran.out.begin(), ran.out.end(), '\n'), 6);
  const auto last = nlohmann::json::parse(ran.out.substr(ran.out.rfind("{\"bench\"")));
  EXPECT_EQ(last["leaves"], 1610);
  EXPECT_EQ(last["hits"], 600);
}

}  // namespace
}  // namespace espalier::test
