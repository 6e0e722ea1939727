// SPDX-License-Identifier: Apache-2.0
// What users and files can do wrong to an extraction: messages and exit codes of the real program.
#include <sys/mount.h>

#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/extract_faults/input_fixture.h"
#include "tests/torture/small_disk.h"

namespace espalier::extract {
namespace {

TEST_F(ExtractInput, BadLinesAreNamedOrCounted) {
  write(std::string(kLines) +
        "{\"tokens\": [1\n\n{\"tokens\": [5, 603]}\n{\"tokens\": \"x\"}\n[3]\n");
  expect_error(extract(), 3, HasSubstr("[dataset] " + data() + " line 3 is no JSON object"));
  EXPECT_FALSE(fs::exists(output() + "/run.json")) << "no run is begun";
  const Ran said = extract({"--skip-bad-lines"});
  EXPECT_THAT(said.out, HasSubstr("4 bad lines left out, the first: [dataset] " + data() +
                                  " line 3 is no JSON object"));
  const Ran ran = extract({"--skip-bad-lines", "--json"});
  EXPECT_EQ(ran.code, 0) << ran.err;
  const auto report = nlohmann::json::parse(ran.out);
  EXPECT_EQ(report.at("bad_lines"), 4);
  EXPECT_EQ(report.at("samples"), 2);
  write("{\"tokens\": [5, 603]}\n");
  expect_error(extract({"--output", folder_ / "other"}), 3,
               HasSubstr("line 1: 603 is no token below 603"));
  write("{\"tokens\": \"x\"}\n");
  expect_error(extract({"--output", folder_ / "other"}), 3,
               HasSubstr("line 1: \"tokens\" is missing or no list"));
  write("{\"text\": 5}\n");
  expect_error(extract({"--output", folder_ / "other"}), 3, HasSubstr("\"text\" is no text"));
  write("{\"txt\": \"a\"}\n");
  expect_error(extract({"--output", folder_ / "other"}), 3, HasSubstr("\"text\" is missing"));
}

TEST_F(ExtractInput, WrongGridsAreNamedByTheirPlace) {
  const auto task = [](const std::string& grid) {
    return R"({"train":[{"input":[[1,2]],"output":[[2],[1]]}],"test":[{"input":)" + grid + "}]}\n";
  };
  const auto error = [&](const std::string& grid, const std::string& text) {
    write(task("[[1]]") + task(grid));
    expect_error(extract({"--max-seq-length", "512"}), 3,
                 HasSubstr(data() + " line 2: test[0] input" + text));
  };
  error("[[1,10]]", " row 0 column 1 is 10, no colour from 0 to 9");
  error("[[1],[-1]]", " row 1 column 0 is -1, no colour");
  error("[[1.5]]", " row 0 column 0 is 1.5, no colour");
  error("[[1,2],[3]]", " row 1 has 1 cells, the rows above 2");
  error("[]", " is no grid");
  const Ran ran = extract(
      {"--max-seq-length", "1024", "--skip-bad-lines", "--json", "--predictions-per-task", "3"});
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(nlohmann::json::parse(ran.out).at("samples"), 3);
  EXPECT_EQ(nlohmann::json::parse(ran.out).at("bad_lines"), 1);
}

// 20 tokens in rows of 16, and a sample that fits.
TEST_F(ExtractInput, LongSamplesUnderEachPolicy) {
  write(R"({"id":"long","tokens":[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19]})"
        "\n"
        R"({"id":"short","tokens":[1]})"
        "\n");
  expect_error(
      extract({"--skip-bad-lines"}), 3,
      HasSubstr("sample long has 20 tokens, the maximum sequence length is 16; raise it, or "
                "choose skip, truncate-left, truncate-right or window"));
  const std::map<std::string, std::pair<std::string, int>> expected{
      {"skip", {"2 samples: 1 whole, 1 skipped, 1 tokens, 20 tokens dropped", 1}},
      {"truncate-left", {"2 samples: 1 whole, 1 truncated, 17 tokens, 4 tokens dropped", 17}},
      {"truncate-right", {"2 samples: 1 whole, 1 truncated, 17 tokens, 4 tokens dropped", 17}},
      {"window", {"2 samples: 1 whole, 1 in 2 windows, 21 tokens", 21}},
  };
  for (const auto& [policy, want] : expected) {
    const Ran ran =
        extract({"--length-policy", policy, "--json", "--output", folder_ / ("run-" + policy)});
    EXPECT_EQ(ran.code, 0) << ran.err;
    EXPECT_EQ(nlohmann::json::parse(ran.out).at("tokens"), want.second) << policy;
    // The same again, in words.
    const Ran said = extract({"--length-policy", policy, "--output", folder_ / ("run-" + policy)});
    EXPECT_THAT(said.out, HasSubstr(want.first)) << policy;
  }
  expect_error(extract({"--length-policy", "truncate-lft"}), 2,
               HasSubstr("nearest: truncate-left"));
}

// A dry run says what each policy would do, also where the run would stop.
TEST_F(ExtractInput, ADryRunCountsUnderEachPolicy) {
  write(R"({"id":"long","tokens":[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19]})"
        "\n"
        R"({"id":"short","tokens":[1]})"
        "\n");
  Ran ran = extract({"--dry-run"});
  expect_error(ran, 3, HasSubstr("[length policy] sample long has 20 tokens"));
  EXPECT_THAT(ran.out,
              AllOf(HasSubstr("the longest sample has 20 tokens, a row 16; by"),
                    HasSubstr("  error           stops at long: 1 are too long\n"),
                    HasSubstr("  skip            2 samples: 1 whole, 1 skipped, 1 tokens"),
                    HasSubstr("  truncate-left   2 samples: 1 whole, 1 truncated, 17"),
                    HasSubstr("  window          2 samples: 1 whole, 1 in 2 windows, 21")));
  ran = extract({"--dry-run", "--json", "--length-policy", "skip"});
  EXPECT_EQ(ran.code, 0) << ran.err;
  const auto report = nlohmann::json::parse(ran.out);
  EXPECT_EQ(report.at("samples"), 1);
  const auto& lengths = report.at("length_policies");
  EXPECT_EQ(lengths.at("too_long"), 1);
  EXPECT_EQ(lengths.at("policies").at("window").at("windows"), 2);
  EXPECT_EQ(lengths.at("policies").at("truncate-right").at("dropped_tokens"), 4);
  ran = extract({"--dry-run", "--max-seq-length", "20"});
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("has 20 tokens, a row 20: whole under every length policy"));
  EXPECT_FALSE(fs::exists(output()));
}

TEST_F(ExtractInput, NothingToReadIsAnError) {
  write("\n \n");
  expect_error(extract(), 3, HasSubstr("the dataset holds no sample"));
  expect_error(extract({"--dataset", folder_ / "none.jsonl"}), 2, HasSubstr("none.jsonl"));
  fs::create_directory(folder_ / "tasks");
  expect_error(extract({"--dataset", folder_ / "tasks"}), 2,
               HasSubstr("holds no .json or .jsonl file"));
  write(kLines);
  expect_error(extract({"--model", folder_ / "none"}), 2, HasSubstr("none"));
  expect_error(extract({"--tokenizer", folder_ / "none"}), 2, HasSubstr("none"));
  EXPECT_FALSE(fs::exists(output() + "/run.json"));
}

TEST_F(ExtractInput, AChangedDatasetModelOrTokenizerIsRefused) {
  write(kLines);
  ASSERT_EQ(extract().code, 0);
  const auto before = contents();
  const auto refused = [&](const Ran& ran, const std::string& field) {
    expect_error(ran, 2,
                 AllOf(HasSubstr(output() + "/run.json is of another run: " + field + " is "),
                       HasSubstr("use another --output"), Not(HasSubstr(";  "))));
    EXPECT_EQ(std::count(ran.err.begin(), ran.err.end(), ';'), 1) << "one field: " << ran.err;
    EXPECT_TRUE(contents() == before);
  };
  const std::string other_model = folder_ / "model", other_tokenizer = folder_ / "tokenizer";
  fs::copy(inputs_->model, other_model);
  {
    std::fstream weights(other_model + "/model.safetensors", std::ios::in | std::ios::out);
    weights.seekp(-1, std::ios::end);
    weights.put('\x01');
  }
  refused(extract({"--model", other_model}), "model");
  fs::copy(inputs_->tokenizer, other_tokenizer);
  std::ofstream(other_tokenizer + "/tokenizer.json", std::ios::app) << "\n";
  refused(extract({"--tokenizer", other_tokenizer}), "tokenizer");
  write(std::string(kLines) + R"({"tokens":[1]})");
  refused(extract(), "dataset");
  write(kLines);
  EXPECT_EQ(extract().code, 0);
}

TEST_F(ExtractInput, OtherSettingsInTheSameFolderAreRefused) {
  write(kLines);
  ASSERT_EQ(extract().code, 0);
  const auto before = contents();
  expect_error(extract({"--batch-size", "2", "--shard-tokens", "30", "--layers", "0"}), 2,
               AllOf(HasSubstr("hooks is"), HasSubstr("batch_size is 1 there and 2 now"),
                     HasSubstr("shard_tokens is 20 there and 30 now")));
  expect_error(extract({"--dtype", "bfloat16"}), 2,
               HasSubstr("dtype is \"f32\" there and \"bf16\" now"));
  EXPECT_TRUE(contents() == before);
}

TEST_F(ExtractInput, ADamagedRunFileIsNamed) {
  write(kLines);
  ASSERT_EQ(extract().code, 0);
  std::ofstream(output() + "/run.json") << "{";
  expect_error(extract(), 3, HasSubstr(output() + "/run.json is damaged"));
}

TEST_F(ExtractInput, AFolderThatCannotBeWrittenIsNamed) {
  write(kLines);
  std::ofstream(folder_ / "file") << "x";
  for (const char* output : {"file", "file/run"}) {
    const Ran ran = extract({"--output", folder_ / output});
    expect_error(ran, 2,
                 AllOf(HasSubstr("Not a directory, at " + (folder_ / output)),
                       HasSubstr("; check the folder of the run"), Not(HasSubstr("continues"))));
  }
  for (const char* flag : {"--dry-run", "--json"}) {
    expect_error(extract({"--output", "", flag}), 2,
                 HasSubstr("[store] the place of the run is empty; give a folder"));
  }
  expect_error(extract({"--output", "ftp://x/y", "--dry-run"}), 2,
               HasSubstr("kept in a folder, s3://bucket/prefix or gs://bucket/prefix"));
}

TEST_F(ExtractInput, AReadOnlyDiskIsNamed) {
  write(kLines);
  const std::string disk = folder_ / "disk";
  const torture::SmallDisk small(disk, 1 << 20);
  if (!small.mounted() || ::mount("", disk.c_str(), "", MS_REMOUNT | MS_RDONLY, "") != 0) {
    GTEST_SKIP() << "mounting is not allowed here";
  }
  expect_error(extract({"--output", disk + "/run"}), 2,
               AllOf(HasSubstr("Read-only file system"), HasSubstr(disk),
                     HasSubstr("choose a folder that is not mounted read-only")));
}

TEST_F(ExtractInput, AFullDiskLosesNothing) {
  std::string lines;
  for (int i = 0; i < 200; ++i)
    lines += R"({"tokens":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]})"
             "\n";
  write(lines);
  const std::string disk = folder_ / "disk";
  torture::SmallDisk small(disk, 1 << 18);
  const Arguments more{"--output", disk + "/run", "--shard-tokens", "160"};
  const Ran full = small.mounted() ? extract(more) : test::run(arguments(more), 1 << 14);
  expect_error(full, 5,
               AllOf(HasSubstr("[store] cannot write"),
                     HasSubstr(small.mounted() ? "No space left on device" : "File too large"),
                     HasSubstr("the run continues from there with the same command")));
  if (small.mounted()) small.resize(1 << 24);
  EXPECT_EQ(extract(more).code, 0);
  EXPECT_EQ(test::run({"verify", disk + "/run"}).code, 0);
}

TEST_F(ExtractInput, ANanIsNamedByHookLayerAndSample) {
  const std::string model = folder_ / "model", weights = model + "/model.safetensors";
  fs::copy(inputs_->model, model);
  {
    const std::string bytes = test::read_file(weights);
    uint64_t length = 0;
    std::memcpy(&length, bytes.data(), sizeof(length));
    const auto header = nlohmann::json::parse(bytes.substr(sizeof(length), length));
    const auto& tensor = header.at("model.layers.1.mlp.down_proj.weight");
    ASSERT_EQ(tensor.at("dtype"), "F32");
    const float nan = std::numeric_limits<float>::quiet_NaN();
    std::fstream file(weights, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(sizeof(length) + length +
                                           tensor.at("data_offsets").at(0).get<uint64_t>()));
    file.write(reinterpret_cast<const char*>(&nan), sizeof(nan));
  }
  write(kLines);
  const Arguments more{"--model", model, "--activation", "mlp"};
  expect_error(extract(more), 3,
               AllOf(HasSubstr("[extract] mlp_out.1 of sample one "),
                     HasSubstr(" 3 values that are NaN"), HasSubstr("check the model's weights")));
  EXPECT_FALSE(fs::exists(output() + "/manifest/00000000.json"));
  EXPECT_FALSE(fs::exists(output() + "/shards/shard-00000000.safetensors"));
  // The layer before it is whole.
  Arguments first = more;
  first.insert(first.end(), {"--layers", "0", "--output", folder_ / "first"});
  EXPECT_EQ(extract(first).code, 0);
}

TEST_F(ExtractInput, ASignalLeavesNothingHalfDone) {
  std::string lines;
  for (int i = 0; i < 200; ++i)
    lines += R"({"tokens":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]})"
             "\n";
  write(lines);
  test::Process process(arguments());
  while (process.running() && !fs::exists(output() + "/manifest/00000001.json")) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  process.signal(SIGTERM);
  EXPECT_EQ(process.wait().code, 143);
  EXPECT_FALSE(fs::exists(output() + "/manifest.jsonl"));
  for (const auto& [path, text] : contents()) {
    EXPECT_FALSE(fs::path(path).filename().string().starts_with('.')) << path;
    EXPECT_THAT(path, Not(HasSubstr("/leases/")));
  }
  EXPECT_EQ(test::run({"verify", output()}).code, 1);
  EXPECT_EQ(extract().code, 0);
  EXPECT_EQ(test::run({"verify", output()}).code, 0);
}

}  // namespace
}  // namespace espalier::extract
