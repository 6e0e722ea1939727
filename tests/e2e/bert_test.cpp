// SPDX-License-Identifier: Apache-2.0
// Whole BERT runs through the real program: interrupted ones end like those that never stopped, and
// what they learn is more than how often each word comes.
#include <gtest/gtest.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/support/program.h"

namespace espalier::test {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

constexpr const char* kWords[] = {"root",  "stem",  "branch", "twig", "bud",  "leaf",
                                  "bloom", "fruit", "seed",   "soil", "rain", "sun"};

/// Sentences that count: every word follows from its neighbours, each comes as often as the others.
std::string counting_text() {
  std::string text;
  for (int i = 0; i < 400; ++i) {
    for (int k = 0; k < 8 + i % 9; ++k) text += std::string(kWords[(i * 7 + k) % 12]) + " ";
    text += "\n\n";
  }
  return text;
}

class BertRuns : public ::testing::Test {
 protected:
  BertRuns() {
    std::ofstream(folder_ / "data.txt") << counting_text();
    std::ofstream vocabulary(folder_ / "vocab.txt");
    for (const char* token : {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}) {
      vocabulary << token << "\n";
    }
    for (const char* word : kWords) vocabulary << word << "\n";
    std::ofstream(folder_ / "config.json")
        << R"({"model_type": "bert", "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2,
               "num_attention_heads": 2, "intermediate_size": 64, "max_position_embeddings": 32})";
  }
  std::vector<std::string> run_of(const std::string& name, int64_t steps,
                                  const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments{"train",         "bert",
                                       "--data",        folder_ / "data.txt",
                                       "--config",      folder_ / "config.json",
                                       "--tokenizer",   folder_ / "vocab.txt",
                                       "--seq-len",     "24",
                                       "--batch-size",  "8",
                                       "--seed",        "7",
                                       "--steps",       std::to_string(steps),
                                       "--warmup",      "2",
                                       "--decay-steps", "1000",
                                       "--eval-every",  "0",
                                       "--save-every",  "0",
                                       "--log-every",   "1",
                                       "--save-dir",    folder_ / name,
                                       "--peak-gflops", "100",
                                       "--threads",     "1"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  std::vector<std::string> resume_of(const std::string& name, int64_t steps) const {
    return {"train", "bert",      "--resume", "--save-dir", folder_ / name,       "--peak-gflops",
            "100",   "--threads", "1",        "--steps",    std::to_string(steps)};
  }
  void expect_same_checkpoint(const std::string& a, const std::string& b) const {
    for (const char* file :
         {"model.safetensors", "state.safetensors", "config.json", "vocab.txt"}) {
      ASSERT_TRUE(fs::exists(folder_.path() / a / file)) << a << " " << file;
      EXPECT_EQ(read_file(folder_.path() / a / file), read_file(folder_.path() / b / file))
          << a << " and " << b << " differ in " << file;
    }
  }
  Folder folder_;
};

TEST_F(BertRuns, ResumingIsBitwiseTheRunThatNeverStopped) {
  const std::vector<std::vector<std::string>> kinds{
      {"--dtype", "float32"},
      {"--dtype", "bfloat16", "--attention", "eager"},
      {"--dtype", "float16", "--accumulate", "2"},
      // Some batches have more labels than the usual step has room for, across epochs.
      {"--label-sigmas=-21", "--mlm-prob", "0.5", "--batch-size", "64", "--pack", "0"}};
  for (size_t k = 0; k < kinds.size(); ++k) {
    const std::string whole = "whole" + std::to_string(k), parts = "parts" + std::to_string(k);
    ASSERT_EQ(run(run_of(whole, 12, kinds[k])).code, 0);
    ASSERT_EQ(run(run_of(parts, 5, kinds[k])).code, 0);
    const Ran ran = run(resume_of(parts, 12));
    ASSERT_EQ(ran.code, 0) << ran.err;
    EXPECT_NE(ran.out.find("resuming at step 5"), std::string::npos) << ran.out;
    expect_same_checkpoint(whole + "/step-00000012", parts + "/step-00000012");
  }
}

TEST_F(BertRuns, SigtermSavesAndTheRunGoesOn) {
  ASSERT_EQ(run(run_of("whole", 300)).code, 0);
  Process process(run_of("run", 300));
  while (process.running() && process.out().find("step 3/") == std::string::npos) {
    std::this_thread::sleep_for(2ms);
  }
  process.signal(SIGTERM);
  const Ran stopped = process.wait();
  ASSERT_EQ(stopped.code, 143) << stopped.out << stopped.err;
  EXPECT_NE(stopped.out.find("stopped by signal 15"), std::string::npos) << stopped.out;
  EXPECT_TRUE(fs::exists(folder_.path() / "run/report.html"));
  ASSERT_EQ(run(resume_of("run", 300)).code, 0);
  expect_same_checkpoint("whole/step-00000300", "run/step-00000300");
}

TEST_F(BertRuns, ItsActivationsAreReadWithItsTokenizer) {
  ASSERT_EQ(run(run_of("run", 2)).code, 0);
  std::ofstream(folder_ / "texts.jsonl") << R"({"text": "root twig sun"})"
                                         << "\n";
  const Ran ran = run({"extract", "--model", folder_ / "run", "--dataset", folder_ / "texts.jsonl",
                       "--threads", "1", "--output", folder_ / "out", "--json"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(nlohmann::json::parse(ran.out).at("tokens").get<int>(), 5) << ran.out;
}

TEST_F(BertRuns, LearnsMoreThanHowOftenEachWordComes) {
  ASSERT_EQ(run(run_of("run", 1000, {"--lr", "3e-3", "--batch-size", "16", "--dropout", "0"})).code,
            0);
  const Ran eval = run({"eval", folder_ / "run", "--data", folder_ / "data.txt", "--json"});
  ASSERT_EQ(eval.code, 0) << eval.err;
  const auto line = nlohmann::json::parse(eval.out);
  const double entropy = line.at("unigram_entropy").get<double>();
  EXPECT_NEAR(entropy, 2.48, 0.02) << "twelve words, equally often";
  EXPECT_LT(line.at("loss").get<double>(), 0.5 * entropy);
  EXPECT_GT(line.at("accuracy").get<double>(), 0.6);
}

}  // namespace
}  // namespace espalier::test
