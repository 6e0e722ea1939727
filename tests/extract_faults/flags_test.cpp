// SPDX-License-Identifier: Apache-2.0
// Flags of extraction: names, bounds, and what they mean together.
#include <nlohmann/json.hpp>

#include "tests/extract_faults/input_fixture.h"

namespace espalier::extract {
namespace {

using ExtractFlags = ExtractInput;

// Also where the data does not need them: they would stand in run.json.
TEST_F(ExtractFlags, WrongNumbersAreNamed) {
  write(kLines);
  const std::map<std::string, std::pair<std::string, std::string>> wrong{
      {"--predictions-per-task", {"0", "predictions per task = 0 must be positive"}},
      {"--seed", {"4294967296", "the seed 4294967296 is not below 2^32"}},
      {"--grid-encoder", {"Minimal()", "there is no encoder \"Minimal\""}},
      {"--max-tasks", {"-2", "--max-tasks -2 must not be negative; -1 takes all"}},
      {"--threads", {"-1", "--threads -1 must not be negative"}},
      {"--workers", {"5000", "--workers 5000: one process runs 1 to 1024"}},
      {"--store-dtype", {"f8", "--store-dtype f8 is none of float32"}},
      {"--dtype", {"f8", "--dtype f8 is none of float32"}},
      {"--shard-tokens", {"-1", "--shard-tokens -1 must be positive"}},
      {"--batch-size", {"0", "--batch-size 0 and --max-seq-length 16 must be positive"}},
      {"--layers", {"0-9", "--layers 0-9: the model has layers 0 to 1"}},
      {"--lease-seconds", {"0", "after which a lease expires, 0, must be positive"}},
  };
  for (const auto& [flag, value] : wrong) {
    expect_error(extract({flag, value.first}), 2, HasSubstr(value.second));
  }
  EXPECT_FALSE(fs::exists(output() + "/run.json"));
}

// The names that the original program gave them, and '_' for '-'.
TEST_F(ExtractFlags, FlagsHaveTheNamesOfTheOriginalToo) {
  const std::string task = R"({"train":[{"input":[[1,2]],"output":[[2],[1]]}],)"
                           R"("test":[{"input":[[3]]}]})"
                           "\n";
  write(task + task + task);
  const Arguments ours{"--layers",
                       "0,1",
                       "--activation",
                       "mlp",
                       "--predictions-per-task",
                       "3",
                       "--prompt-version",
                       "output-from-examples-v1",
                       "--grid-encoder",
                       "RowNumberEncoder(MinimalGridEncoder())",
                       "--max-tasks",
                       "2",
                       "--seed",
                       "7",
                       "--max-seq-length",
                       "512"};
  ASSERT_EQ(extract(ours).code, 0);
  const auto before = contents();
  const Ran same = test::run({"extract",
                              "--model_path",
                              inputs_->model,
                              "--tokenizer",
                              inputs_->tokenizer,
                              "--dataset_path",
                              data(),
                              "--layers_to_extract",
                              "0",
                              "1",
                              "--activation_type",
                              "mlp",
                              "--output_dir",
                              output(),
                              "--predictions_per_task",
                              "3",
                              "--prompt_version",
                              "output-from-examples-v1",
                              "--grid_encoder",
                              "RowNumberEncoder(MinimalGridEncoder())",
                              "--max_tasks",
                              "2",
                              "--random_seed",
                              "7",
                              "--max_seq_length",
                              "512",
                              "--batch_size",
                              "1",
                              "--shard_tokens",
                              "20",
                              "--threads",
                              "1",
                              "--json"});
  EXPECT_EQ(same.code, 0) << same.err;
  const auto report = nlohmann::json::parse(same.out);
  EXPECT_EQ(report.at("samples"), 6);
  EXPECT_EQ(report.at("made_shards"), 0) << "the same run";
  EXPECT_TRUE(contents() == before);
}

TEST_F(ExtractFlags, LayersBoundWhatGlobsMatch) {
  write(kLines);
  const auto hooks = [&](const Arguments& more) {
    Arguments all{"--output", folder_ / ("run-" + more.back())};
    all.insert(all.end(), more.begin(), more.end());
    const Ran ran = extract(all);
    EXPECT_EQ(ran.code, 0) << ran.err;
    const auto run = nlohmann::json::parse(test::read_file(all[1] + "/run.json"));
    return run.at("hooks").dump();
  };
  EXPECT_EQ(hooks({"--layers", "1", "--activation", "resid_m*,resid_pre.0"}),
            R"(["resid_pre.0","resid_mid.1"])");
  EXPECT_EQ(hooks({"--layers", "0", "--activation", "*"}),
            R"(["embed","resid_pre.0","attn_out.0","resid_mid.0","mlp_out.0","resid_post.0",)"
            R"("final_norm"])");
  EXPECT_EQ(hooks({"--activation", "mlp_out.*"}), R"(["mlp_out.0","mlp_out.1"])");
  expect_error(extract({"--layers", "1", "--activation", "mlp_out.[0]"}), 2,
               HasSubstr("--layers 1 has no hook that \"mlp_out.[0]\" matches"));
  expect_error(extract({"--layers", "1", "--activation", "mlp_in.*"}), 2,
               HasSubstr("\"mlp_in.*\" matched none of 12 hooks"));
}

// What is shown while it goes, and in the end: for people and for machines.
TEST_F(ExtractFlags, ProgressAndReportAreWhole) {
  write(R"({"tokens":[0,1,2,3,4,5,6,7,8,9]})"
        "\n"
        R"({"tokens":[9,8,7,6,5,4,3,2,1,0]})"
        "\n");
  const Ran said = extract({"--shard-tokens", "1"});
  EXPECT_THAT(said.err, AllOf(HasSubstr("[####################] 2 of 2 shards, 2 samples, "),
                              HasSubstr(" samples/s, "), HasSubstr(" tokens/s, "),
                              HasSubstr("B/s, "), HasSubstr(" compiled")));
  EXPECT_THAT(said.out, AllOf(HasSubstr("2 shards made here: 2 samples, 20 tokens, "),
                              HasSubstr("  the limit\n"),
                              HasSubstr("the run is complete: 2 shards, 2 samples\n")));
  const Ran ran = extract({"--shard-tokens", "1", "--json", "--output", folder_ / "other"});
  EXPECT_EQ(ran.err, "") << "one object, and nothing else";
  const auto report = nlohmann::json::parse(ran.out);
  for (const char* key : {"shards", "samples", "tokens", "computed_tokens", "useful_share", "lines",
                          "bytes", "compiles", "compile_seconds", "seconds", "tokens_per_second",
                          "memory_peak_bytes", "made_shards", "limit", "complete"}) {
    EXPECT_TRUE(report.contains(key)) << key;
  }
  double sum = 0.0;
  for (const char* stage : {"read", "prompt", "tokenize", "plan", "claim", "compute", "copy",
                            "encode", "write", "commit"}) {
    ASSERT_TRUE(report.at("stage_seconds").contains(stage)) << stage;
    sum += report.at("stage_seconds").at(stage).get<double>();
  }
  EXPECT_GT(sum, 0.0);
  EXPECT_TRUE(report.at("stage_seconds").contains(report.at("limit").get<std::string>()));
  const Ran dry = extract({"--dry-run", "--json", "--output", folder_ / "none"});
  for (const char* key : {"shards", "bytes", "free_bytes", "flops", "predicted_seconds",
                          "start_seconds", "tokens_per_second", "workers", "useful_share"}) {
    EXPECT_TRUE(nlohmann::json::parse(dry.out).contains(key)) << key;
  }
}

TEST_F(ExtractFlags, InitIgnoresNothingAndOverwritesNothing) {
  const std::string model = folder_ / "model";
  expect_error(test::run({"init", "qwen2-0.5b", model, "--hidden", "32"}), 2,
               HasSubstr("qwen2-0.5b has its own sizes; flags of sizes go with qwen2"));
  expect_error(test::run({"init", "qwen3", model}), 2,
               HasSubstr("there is no configuration \"qwen3\"; nearest: qwen2; known: qwen2-0.5b"));
  EXPECT_FALSE(fs::exists(model));
  EXPECT_EQ(test::run({"init", (inputs_->model / "config.json").string(), model, "--seed", "3",
                       "--dtype", "float32"})
                .code,
            0);
  EXPECT_EQ(test::read_file(model + "/config.json"),
            test::read_file((inputs_->model / "config.json").string()));
  const std::string weights = test::read_file(model + "/model.safetensors");
  expect_error(test::run({"init", "qwen2", model}), 2,
               HasSubstr(model + " holds a model already (config.json); name another folder"));
  EXPECT_TRUE(test::read_file(model + "/model.safetensors") == weights);
}

}  // namespace
}  // namespace espalier::extract
