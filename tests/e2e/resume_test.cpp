// SPDX-License-Identifier: Apache-2.0
// Whole runs through the real program: interrupted ones must end like those that never stopped.
#include <gtest/gtest.h>

#include <chrono>
#include <random>
#include <set>
#include <thread>

#include "tests/support/program.h"

namespace espalier::test {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

std::vector<std::string> run_of(const std::string& dir, const std::string& dtype, int64_t steps,
                                std::vector<std::string> more = {}) {
  std::vector<std::string> arguments{
      "train",         "byte-lm", "--num-layer", "2",
      "--d-model",     "32",      "--heads",     "2",
      "--ffn",         "64",      "--seq-len",   "32",
      "--batch",       "4",       "--seed",      "7",
      "--dtype",       dtype,     "--steps",     std::to_string(steps),
      "--save-dir",    dir,       "--log-every", "1",
      "--peak-gflops", "100",     "--threads",   "1"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

void expect_same_checkpoint(const fs::path& a, const fs::path& b) {
  for (const char* file : {"model.safetensors", "state.safetensors"}) {
    ASSERT_TRUE(fs::exists(a / file)) << a;
    ASSERT_TRUE(fs::exists(b / file)) << b;
    EXPECT_EQ(read_file(a / file), read_file(b / file))
        << a << " and " << b << " differ in " << file;
  }
}

class Resume : public ::testing::TestWithParam<std::string> {};

TEST_P(Resume, IsBitwiseTheRunThatNeverStopped) {
  Folder folder;
  ASSERT_EQ(run(run_of(folder / "whole", GetParam(), 10)).code, 0);
  ASSERT_EQ(run(run_of(folder / "parts", GetParam(), 4)).code, 0);
  const Ran ran = run({"train", "byte-lm", "--resume", "--save-dir", folder / "parts", "--steps",
                       "10", "--peak-gflops", "100", "--threads", "1"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_NE(ran.out.find("resuming at step 4"), std::string::npos) << ran.out;
  expect_same_checkpoint(folder / "whole/step-00000010", folder / "parts/step-00000010");
}

INSTANTIATE_TEST_SUITE_P(Dtypes, Resume, ::testing::Values("float32", "bfloat16", "float16"),
                         [](const auto& test) { return test.param; });

TEST(Dtypes, HaveASimilarTrainingCurve) {
  Folder folder;
  for (const char* dtype : {"float32", "bfloat16", "float16"}) {
    const Ran ran = run(run_of(folder / dtype, dtype, 150, {"--lr", "3e-3", "--dropout", "0.1"}));
    ASSERT_EQ(ran.code, 0) << ran.err;
  }
  const Ran ran =
      run({"curves", "float32=" + (folder / "float32"), "bfloat16=" + (folder / "bfloat16"),
           "float16=" + (folder / "float16"), "--out", folder / "curves.html"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  std::printf("%s", ran.out.c_str());
  // "float32 and bfloat16: at most 0.0123 bits_per_byte apart": rounding moves the curve by less
  // than a hundredth of the four bits that training takes off.
  std::istringstream lines(ran.out);
  int compared = 0;
  for (std::string line; std::getline(lines, line);) {
    const size_t at = line.find("at most ");
    if (at == std::string::npos) continue;
    EXPECT_LT(std::stod(line.substr(at + 8)), 0.08) << line;
    ++compared;
  }
  EXPECT_EQ(compared, 2);
}

TEST(Signals, SaveAndLeave) {
  Folder folder;
  ASSERT_EQ(run(run_of(folder / "whole", "float32", 40)).code, 0);
  for (const auto& [number, code] : {std::pair{SIGINT, 130}, std::pair{SIGTERM, 143}}) {
    const std::string dir = folder / ("run" + std::to_string(number));
    Process process(run_of(dir, "float32", 1000000));
    while (process.running() && process.out().find("step 3/") == std::string::npos) {
      std::this_thread::sleep_for(5ms);
    }
    process.signal(number);
    const Ran ran = process.wait();
    EXPECT_EQ(ran.code, code) << ran.err;
    EXPECT_NE(ran.out.find("stopped by signal"), std::string::npos) << ran.out;
    EXPECT_NE(ran.out.find("saved "), std::string::npos) << ran.out;
    EXPECT_TRUE(fs::exists(fs::path(dir) / "report.html"));
  }
}

TEST(Signals, AStoppedRunGoesOnAsIfNothingHappened) {
  Folder folder;
  Process process(run_of(folder / "run", "float32", 400));
  while (process.running() && process.out().find("step 5/") == std::string::npos) {
    std::this_thread::sleep_for(2ms);
  }
  process.signal(SIGINT);
  const Ran stopped = process.wait();
  ASSERT_TRUE(stopped.code == 130) << stopped.code << stopped.out << stopped.err;
  ASSERT_EQ(run({"train", "byte-lm", "--resume", "--save-dir", folder / "run", "--peak-gflops",
                 "100", "--threads", "1"})
                .code,
            0);
  ASSERT_EQ(run(run_of(folder / "whole", "float32", 400)).code, 0);
  expect_same_checkpoint(folder / "whole/step-00000400", folder / "run/step-00000400");
}

// The run saves after every step. Three of four kills are aimed at a write: how long one takes, and
// so how often an unaimed kill meets one, is the machine's affair.
TEST(Kill, AtRandomMomentsLosesNothing) {
  constexpr int kKills = 24;
  constexpr int kAttempts = 200;
  constexpr int64_t kSteps = 600;
  Folder folder;
  const std::string dir = folder / "run";
  std::mt19937 random(20240607);
  const std::vector<std::string> start = run_of(dir, "float32", kSteps, {"--save-every", "1"});
  std::vector<std::string> again = start;
  again.push_back("--resume");

  // What a commit leaves behind when it is cut off.
  std::set<std::string> leftovers;
  const auto find_new_leftover = [&](bool keep) {
    std::error_code vanished;
    for (fs::directory_iterator entry(dir, vanished), end; !vanished && entry != end;
         entry.increment(vanished)) {
      const std::string name = entry->path().filename().string();
      if (name.find(".tmp-") == std::string::npos || leftovers.contains(name)) continue;
      if (keep) leftovers.insert(name);
      return true;
    }
    return false;
  };

  int kills = 0, in_write = 0;
  while (kills < kKills || in_write * 2 <= kills) {  // most must land inside a write
    ASSERT_LT(kills, kAttempts) << "only " << in_write << " kills met a write";
    Process process(fs::exists(fs::path(dir) / "run.json") ? again : start);
    // Wait for the first checkpoint of this process, so that each attempt moves forward.
    while (process.running() && process.out().find("saved ") == std::string::npos) {
      std::this_thread::sleep_for(1ms);
    }
    if (kills % 4 == 0) {
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 8000));
    } else {
      while (process.running() && !find_new_leftover(false)) std::this_thread::yield();
    }
    ASSERT_TRUE(process.running())
        << "the run ended after " << kills << " kills; give it more steps\n"
        << process.wait().err;
    process.signal(SIGKILL);
    process.wait();
    ++kills;
    in_write += find_new_leftover(true) ? 1 : 0;
  }
  // The rest need not save so often; how often it does is no part of what it computes.
  again.insert(again.end(), {"--save-every", "200"});
  const Ran last = run(again);
  ASSERT_EQ(last.code, 0) << last.err;
  ASSERT_EQ(run(run_of(folder / "whole", "float32", kSteps)).code, 0);
  expect_same_checkpoint(fs::path(folder / "whole") / "step-00000600",
                         fs::path(dir) / "step-00000600");
  RecordProperty("kills", kills);
  RecordProperty("in_write", in_write);
  std::printf("%d kills, %d of them inside a checkpoint write\n", kills, in_write);
}

}  // namespace
}  // namespace espalier::test
