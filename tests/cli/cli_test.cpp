// SPDX-License-Identifier: Apache-2.0
// The program's flags, messages and exit codes, each through the real program.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/support/expect_ran.h"
#include "tests/support/program.h"

namespace espalier::test {
namespace {

namespace fs = std::filesystem;

/// A run that takes milliseconds.
std::vector<std::string> tiny(std::vector<std::string> more) {
  std::vector<std::string> arguments{
      "train",         "byte-lm", "--num-layer", "1",  "--d-model",    "16", "--heads", "2",
      "--ffn",         "32",      "--seq-len",   "16", "--batch-size", "4",  "--steps", "4",
      "--peak-gflops", "100",     "--log-every", "2"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

void write(const std::string& path, size_t size) {
  std::ofstream file(path, std::ios::binary);
  for (size_t i = 0; i < size; ++i) file.put(static_cast<char>('a' + i % 23));
}

TEST(Flags, UnknownOnesNameTheNearest) {
  expect_error(run({"train", "byte-lm", "--batchsize", "4"}), 2,
               {"unknown flag --batchsize", "nearest: --batch-size"});
  expect_error(run({"generate", "run", "--temprature=1"}), 2,
               {"unknown flag --temprature", "nearest: --temperature"});
  expect_error(run({"tran"}), 2, {"unknown command \"tran\"", "nearest: train"});
  expect_error(run({"bench", "bytelm"}), 2, {"nearest: byte-lm"});
  expect_error(run({}), 2, {"a command is missing"});
  expect_error(run({"train"}), 2, {"a command is missing: byte-lm"});
  expect_error(run({"peak", "everything"}), 2, {"unexpected argument \"everything\""});
}

TEST(Flags, DashesAndUnderscoresAreTheSame) {
  const Ran ran = run({"dump", "byte_lm"});
  expect_error(ran, 2, {"nearest: byte-lm"});  // names of commands have one spelling
  const Ran good = run({"dump", "byte-lm", "--num_layer=1", "--d_model", "8", "--heads", "2",
                        "--ffn", "8", "--seq_len", "4", "--batch_size", "1"});
  EXPECT_EQ(good.code, 0) << good.err;
  EXPECT_NE(good.out.find("f32[1,4,8]"), std::string::npos) << good.out;
}

TEST(Flags, ValuesAreChecked) {
  expect_error(run({"train", "byte-lm", "--steps", "many"}), 2, {"--steps"});
  expect_error(run(tiny({"--steps", "0"})), 2, {"--steps 0 must be positive"});
  expect_error(run(tiny({"--log_every", "-3"})), 2, {"--log-every -3 must be positive"});
  expect_error(run(tiny({"--dtype", "bfloat61"})), 2, {"--dtype bfloat61", "nearest: bfloat16"});
  expect_error(run(tiny({"--model", "libary"})), 2, {"libary", "library"});
  expect_error(run(tiny({"--init", "jaxx"})), 2, {"--init jaxx", "nearest: jax"});
  expect_error(run(tiny({"--optimizer", "adamm"})), 2, {"--optimizer adamm", "nearest: adam"});
  expect_error(run(tiny({"--schedule", "cosin"})), 2, {"--schedule cosin", "nearest: cosine"});
  expect_error(run(tiny({"--backend", "gpu"})), 2, {"gpu"});
  expect_error(run(tiny({"--disable-pass", "fussion"})), 2, {"fussion"});
  expect_error(run(tiny({"--seed", "-1"})), 2, {"--seed: -1 must not be negative"});
  expect_error(run(tiny({"--compile", "2"})), 2, {"--compile: 2 is neither 0 nor 1"});
  expect_error(run(tiny({"--optimizer", "adamw", "--weight-decay", "-1"})), 2,
               {"--weight-decay -1 must not be negative"});
  expect_error(run(tiny({"--threads", "5000"})), 2, {"--threads 5000 is outside 0 to 4096"});
  expect_error(run(tiny({"--schedule", "linear", "--warmup", "4"})), 2,
               {"--warmup 4 must be less than --steps 4, where the linear schedule ends"});
  expect_error(run(tiny({"--remat", "layers.0.mlp,layers.7.mlp"})), 2,
               {"\"layers.7.mlp\" matches none of the ", "nearest: layers.0.mlp"});
  expect_error(run({"eval", "run", "--batch", "0"}), 2, {"--batch-size 0 must be positive"});
  expect_error(run({"eval", "run", "--max-bytes", "-1"}), 2, {"--max-bytes -1 not negative"});
  expect_error(run({"peak", "--threads", "-1"}), 2, {"--threads -1 is outside 0 to 4096"});
  expect_error(run({"peak", "--seconds", "0"}), 2, {"--seconds 0 must be positive"});
}

/// The help of a command and of every one below it: its full name, and an example of itself.
void expect_help(const std::vector<std::string>& command) {
  std::vector<std::string> arguments = command;
  arguments.emplace_back("--help");
  const Ran ran = run(arguments);
  ASSERT_EQ(ran.code, 0) << ran.err;
  std::string name = "espalier";
  for (const std::string& part : command) name += " " + part;
  EXPECT_NE(ran.out.find("Usage: " + name + " ["), std::string::npos) << ran.out;
  const size_t examples = ran.out.find("Example");
  ASSERT_NE(examples, std::string::npos) << ran.out;
  EXPECT_NE(ran.out.find(name, examples), std::string::npos) << "no example of itself: " << name;
  // "  byte-lm      train the byte-level language model"
  const size_t list = ran.out.find("\nSubcommands:\n");
  if (list == std::string::npos) return;
  std::istringstream lines(ran.out.substr(list, examples - list));
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("  ") || line.starts_with("   ")) continue;
    std::vector<std::string> below = command;
    below.push_back(line.substr(2, line.find(' ', 2) - 2));
    expect_help(below);
  }
}

TEST(Flags, HelpShowsExamplesAndTheVersionIsPlain) {
  expect_help({});
  const std::string help = run({"train", "byte-lm", "--help"}).out;
  EXPECT_NE(help.find("--resume"), std::string::npos);
  EXPECT_NE(help.find("--steps INT=5000"), std::string::npos) << "defaults are shown";
  EXPECT_EQ(run({"--version"}).out.rfind("espalier 0.", 0), 0u);
}

TEST(Model, SizesThatDoNotFitAreNamed) {
  expect_error(run(tiny({"--heads", "3"})), 2, {"16", "3"});
  expect_error(run(tiny({"--num-layer", "0"})), 2, {"layers"});
  expect_error(run(tiny({"--dropout", "1.5"})), 2, {"dropout", "1.5"});
}

TEST(Data, MissingEmptyAndShortFiles) {
  Folder folder;
  write(folder / "short", 20);
  write(folder / "empty", 0);
  expect_error(run(tiny({"--data", folder / "none"})), 2, {"none", "No such file"});
  expect_error(run(tiny({"--data", folder / "empty"})), 3, {"empty"});
  expect_error(run(tiny({"--data", folder / "short"})), 3, {"20 bytes are too few", "32"});
  expect_error(run(tiny({"--data", folder.path().string()})), 2, {"folder"});
}

TEST(Data, NamesMayBeAnyBytes) {
  Folder folder;
  const std::string data = folder / "data\xff", dir = folder / "run\xff";
  write(data, 500);
  const Ran ran = run(tiny({"--data", data, "--save-dir", dir}));
  ASSERT_EQ(ran.code, 0) << ran.err;
  const Ran eval = run({"eval", dir, "--data", data, "--json"});
  ASSERT_EQ(eval.code, 0) << eval.err;
  EXPECT_NE(nlohmann::json::parse(eval.out).at("data").get<std::string>().find("data\uFFFD"),
            std::string::npos)
      << eval.out;
}

TEST(Train, WithoutAFolderWritesNothing) {
  const Ran ran = run(tiny({}));
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_NE(ran.out.find("step 2/4"), std::string::npos) << ran.out;
  EXPECT_NE(ran.out.find("step 4/4"), std::string::npos) << ran.out;
  EXPECT_NE(ran.out.find("bits/byte"), std::string::npos) << ran.out;
  EXPECT_NE(ran.out.find("GFLOP per sequence = matmul"), std::string::npos) << ran.out;
}

TEST(Train, AFolderHoldsTheWholeRun) {
  Folder folder;
  const std::string dir = folder / "run";
  const Ran ran = run(tiny({"--save-dir", dir, "--profile", "--eval-every", "2"}));
  ASSERT_EQ(ran.code, 0) << ran.err;
  for (const char* name : {"run.json", "metrics.csv", "report.html", "trace.json",
                           "step-00000004/model.safetensors", "step-00000004/state.json"}) {
    EXPECT_TRUE(fs::exists(fs::path(dir) / name)) << name;
  }
  EXPECT_NO_THROW(nlohmann::json::parse(read_file(fs::path(dir) / "trace.json")));
  EXPECT_NE(read_file(fs::path(dir) / "report.html").find("Where the time of a step goes"),
            std::string::npos);

  // What was trained can be used.
  const Ran text = run({"generate", dir, "--prompt", "ab", "--length", "5", "--seed", "1"});
  EXPECT_EQ(text.code, 0) << text.err;
  EXPECT_EQ(text.out.rfind("ab", 0), 0u);
  EXPECT_EQ(text.out, run({"generate", dir, "--prompt", "ab", "--length", "5", "--seed", "1"}).out);
  const Ran eval = run({"eval", dir, "--data", "builtin", "--max-bytes", "100", "--json"});
  ASSERT_EQ(eval.code, 0) << eval.err;
  const auto object = nlohmann::json::parse(eval.out);
  EXPECT_EQ(object.at("bytes"), 100);
  EXPECT_GT(object.at("bits_per_byte").get<double>(), 1.0);
  EXPECT_LT(object.at("bits_per_byte").get<double>(), 16.0);
  EXPECT_EQ(object.at("step"), 4);

  expect_error(run(tiny({"--save-dir", dir})), 2, {"holds a run at step 4", "--resume"});
}

TEST(Train, FoldersThatCannotBeWrittenAreUserErrors) {
  Folder folder;
  write(folder / "file", 3);
  expect_error(run(tiny({"--save-dir", folder / "file/run"})), 2, {"file"});
  expect_error(run(tiny({"--resume"})), 2, {"--save-dir"});
  expect_error(run(tiny({"--profile"})), 2, {"--save-dir"});
  expect_error(run(tiny({"--resume", "--save-dir", folder / "new"})), 2,
               {"no checkpoint", "leave out --resume"});
}

TEST(Train, AFullDiskIsADeviceErrorAndKeepsEarlierCheckpoints) {
  Folder folder;
  const std::string dir = folder / "run";
  ASSERT_EQ(run(tiny({"--save-dir", dir})).code, 0);
  const Ran ran = run(tiny({"--save-dir", dir, "--resume", "--steps", "6"}), 8192);
  expect_error(ran, 5, {"step-00000004"});
  EXPECT_TRUE(fs::exists(fs::path(dir) / "step-00000004/state.json"));
  EXPECT_FALSE(fs::exists(fs::path(dir) / "step-00000006"));
  const Ran again = run(tiny({"--save-dir", dir, "--resume", "--steps", "6"}));
  EXPECT_EQ(again.code, 0) << again.err;
}

TEST(Resume, OtherSettingsAreNamed) {
  Folder folder;
  const std::string dir = folder / "run";
  write(folder / "data", 5000);
  ASSERT_EQ(run(tiny({"--save-dir", dir, "--data", folder / "data"})).code, 0);
  expect_error(run({"train", "byte-lm", "--resume", "--save-dir", dir, "--num-layer", "2",
                    "--d-model", "32", "--peak-gflops", "100"}),
               2, {"num_layer is 1 in the checkpoint and 2 now", "d_model is 16", "32"});
  expect_error(run({"train", "byte-lm", "--resume", "--save-dir", dir, "--seed", "9",
                    "--peak-gflops", "100"}),
               2, {"seed is 0 in the checkpoint and 9 now"});
  expect_error(run({"train", "byte-lm", "--resume", "--save-dir", dir, "--optimizer", "sgd",
                    "--steps", "6", "--peak-gflops", "100"}),
               2, {"sgd.trace", "--optimizer"});
  expect_error(run({"train", "byte-lm", "--resume", "--save-dir", dir, "--steps", "2",
                    "--peak-gflops", "100"}),
               2, {"step 4", "--steps 2"});
  write(folder / "data", 6000);
  expect_error(run({"train", "byte-lm", "--resume", "--save-dir", dir, "--steps", "6",
                    "--peak-gflops", "100"}),
               2, {"the data is not that of the checkpoint", "6000"});
  write(folder / "data", 5000);
  const Ran ran = run({"train", "byte-lm", "--resume", "--save-dir", dir, "--steps", "6", "--lr",
                       "0.01", "--peak-gflops", "100"});
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_NE(ran.out.find("from here on, lr is 0.001"), std::string::npos) << ran.out;
}

/// Stopped before its first checkpoint: run.json says how it was begun.
TEST(Resume, ARunWithoutACheckpointStartsAgainAsItWasBegun) {
  Folder folder;
  const std::string dir = folder / "run";
  const auto begin = [&] {
    fs::remove_all(dir);
    ASSERT_EQ(run(tiny({"--save-dir", dir, "--seed", "3", "--remat", "layers.0.mlp"})).code, 0);
    fs::remove_all(fs::path(dir) / "step-00000004");
  };
  begin();
  const std::string whole = folder / "whole";
  ASSERT_EQ(run(tiny({"--save-dir", whole, "--seed", "3", "--remat", "layers.0.mlp"})).code, 0);
  const std::vector<std::string> resume{"train", "byte-lm",       "--resume", "--save-dir",
                                        dir,     "--peak-gflops", "100"};
  const Ran ran = run(resume);
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_NE(ran.out.find("ended before its first checkpoint"), std::string::npos) << ran.out;
  for (const char* file : {"run.json", "step-00000004/model.safetensors"}) {
    EXPECT_EQ(read_file(fs::path(dir) / file), read_file(fs::path(whole) / file)) << file;
  }
  begin();
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), resume.begin(), resume.end());
    return run(more);
  };
  expect_error(with({"--num-layer", "2"}), 2, {"num_layer is 1", "2 now"});
  expect_error(with({"--seed", "4"}), 2, {"seed is 3", "4 now"});
  expect_error(run({"train", "bert", "--resume", "--save-dir", dir}), 2,
               {"the kind byte-lm where bert is needed"});
  std::ofstream(fs::path(dir) / "run.json") << "{\"version\": 1}";
  expect_error(run(resume), 3, {"the file.version is not a string", "run.json"});
}

TEST(Runs, MissingAndDamagedOnes) {
  Folder folder;
  expect_error(run({"generate", folder / "none"}), 2, {"no folder", "--save-dir"});
  expect_error(run({"eval", folder.path().string()}), 2, {"no checkpoint in"});
  expect_error(run({"generate"}), 2, {"RUN"});
  const std::string dir = folder / "run";
  ASSERT_EQ(run(tiny({"--save-dir", dir})).code, 0);
  fs::resize_file(fs::path(dir) / "step-00000004/model.safetensors", 100);
  expect_error(run({"generate", dir}), 3, {"step-00000004"});
}

}  // namespace
}  // namespace espalier::test
