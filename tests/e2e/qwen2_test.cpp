// SPDX-License-Identifier: Apache-2.0
// Whole Qwen2 runs through the real program: interrupted ones end like those that never stopped,
// and what they learn is more than how often each token comes.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/support/program.h"

namespace espalier::test {
namespace {

namespace fs = std::filesystem;

/// Sentences that count: every word follows from the one before, each comes as often as the others.
std::string counting_text() {
  static const char* const kWords[] = {"root",  "stem",  "branch", "twig", "bud",  "leaf",
                                       "bloom", "fruit", "seed",   "soil", "rain", "sun"};
  std::string text;
  for (int i = 0; i < 400; ++i) {
    for (int k = 0; k < 8 + i % 9; ++k) text += " " + std::string(kWords[(i * 7 + k) % 12]);
    text += "\n\n";
  }
  return text;
}

class Qwen2Runs : public ::testing::Test {
 protected:
  Qwen2Runs() { std::ofstream(folder_ / "data.txt") << counting_text(); }
  std::vector<std::string> run_of(const std::string& name, int64_t steps,
                                  const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments{
        "train",         "qwen2", "--data",        folder_ / "data.txt",
        "--vocab-size",  "300",   "--layers",      "2",
        "--hidden",      "32",    "--heads",       "4",
        "--kv-heads",    "2",     "--ffn",         "48",
        "--seq-len",     "24",    "--batch-size",  "8",
        "--seed",        "7",     "--steps",       std::to_string(steps),
        "--warmup",      "2",     "--decay-steps", "1000",
        "--eval-every",  "0",     "--save-every",  "0",
        "--log-every",   "1",     "--save-dir",    folder_ / name,
        "--peak-gflops", "100",   "--threads",     "1"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  Folder folder_;
};

TEST_F(Qwen2Runs, ResumingIsBitwiseTheRunThatNeverStopped) {
  const std::vector<std::vector<std::string>> kinds{
      {"--dtype", "float32"},
      {"--dtype", "bfloat16", "--attention", "eager"},
      {"--dtype", "float16", "--accumulate", "2", "--pack", "0"}};
  for (size_t k = 0; k < kinds.size(); ++k) {
    const std::string whole = "whole" + std::to_string(k), parts = "parts" + std::to_string(k);
    ASSERT_EQ(run(run_of(whole, 12, kinds[k])).code, 0);
    ASSERT_EQ(run(run_of(parts, 5, kinds[k])).code, 0);
    const Ran ran = run({"train", "qwen2", "--resume", "--save-dir", folder_ / parts,
                         "--peak-gflops", "100", "--threads", "1", "--steps", "12"});
    ASSERT_EQ(ran.code, 0) << ran.err;
    EXPECT_NE(ran.out.find("resuming at step 5"), std::string::npos) << ran.out;
    for (const char* file : {"model.safetensors", "state.safetensors", "config.json", "vocab.json",
                             "merges.txt", "tokenizer_config.json"}) {
      const fs::path a = folder_.path() / whole / "step-00000012" / file;
      ASSERT_TRUE(fs::exists(a)) << a;
      EXPECT_EQ(read_file(a), read_file(folder_.path() / parts / "step-00000012" / file))
          << a << " differs after resuming";
    }
  }
}

TEST_F(Qwen2Runs, LearnsMoreThanHowOftenEachTokenComes) {
  ASSERT_EQ(run(run_of("run", 400, {"--lr", "3e-3", "--batch-size", "16"})).code, 0);
  const Ran eval = run({"eval", folder_ / "run", "--data", folder_ / "data.txt", "--json"});
  ASSERT_EQ(eval.code, 0) << eval.err;
  const auto line = nlohmann::json::parse(eval.out);
  const double entropy = line.at("unigram_entropy").get<double>();
  EXPECT_GT(entropy, 2.3) << "twelve words, equally often";
  // Open are the first word and the end: about 2.5 and 2.2 nats in 12 words.
  EXPECT_LT(line.at("loss").get<double>(), 0.3 * entropy);
}

}  // namespace
}  // namespace espalier::test
