// SPDX-License-Identifier: Apache-2.0
// Processes that die while they write checkpoints, and system calls that fail or fall short.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <atomic>
#include <csignal>
#include <random>
#include <thread>

#include "espalier/base/error.h"
#include "espalier/io/atomic.h"
#include "espalier/train/checkpoint.h"
#include "tests/io/folder.h"
#include "tests/syscalls/child.h"
#include "tests/syscalls/crash.h"
#include "tests/syscalls/syscalls.h"
#include "tests/train_files/samples.h"

namespace espalier::train {
namespace {
namespace fs = std::filesystem;

/// What the writing child tells its parent.
struct Progress {
  std::atomic<int64_t> committed{-1};
  std::atomic<bool> writing{false};
};

TEST(Crash, KilledAtRandomMomentsTheNewestCheckpointIsAlwaysWhole) {
  constexpr int kKills = 24;
  constexpr int64_t kRows = 256;  // about 1 MiB
  const TestFolder dir;
  auto* progress = new (::mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE,
                               MAP_SHARED | MAP_ANONYMOUS, -1, 0)) Progress;
  std::mt19937 random(17);
  int inside = 0;
  int64_t step = 0;
  int kill = 0;
  for (; kill < kKills || inside * 2 <= kill; ++kill) {
    ASSERT_LT(kill, 10 * kKills) << "only " << inside << " kills met a write";
    io::remove_leftovers(dir.path());
    progress->committed = -1;
    const pid_t child = start_child([&] {
      for (int64_t next = step + 1;; ++next) {
        const Checkpoint checkpoint = sample_checkpoint(next, kRows);
        progress->writing = true;
        save_checkpoint(dir.path(), checkpoint);
        keep_last(dir.path(), 2);
        progress->writing = false;
        progress->committed = next;
      }
      return 0;
    });
    // From the second one on there is always something to lose.
    while (progress->committed < step + 1) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 30000));
    if (kill % 4 != 0) {  // three of four are aimed at a write, on whatever machine this runs
      while (!progress->writing) std::this_thread::yield();
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 3000));
    }
    ::kill(child, SIGKILL);
    ASSERT_EQ(wait_for(child), 128 + SIGKILL);
    inside += progress->writing ? 1 : 0;
    const auto loaded = load_newest(dir.path());
    ASSERT_TRUE(loaded.has_value());
    EXPECT_EQ(loaded->warnings, "");
    step = loaded->checkpoint.step;
    EXPECT_GE(step, progress->committed);
    EXPECT_TRUE(same_checkpoint(loaded->checkpoint, sample_checkpoint(step, kRows)));
  }
  io::remove_leftovers(dir.path());
  EXPECT_LE(dir.count(), 3);
  printf("%d kills, %d of them while writing, last step %lld\n", kill, inside,
         static_cast<long long>(step));
  ::munmap(progress, sizeof(Progress));
}

TEST(Crash, KilledBeforeEverySystemCallOfASave) {
  const TestFolder dir;
  const fs::path run = dir / "run";
  const auto prepare = [&] {
    fs::remove_all(run);
    save_checkpoint(run, sample_checkpoint(1));
  };
  const auto work = [&] {
    save_checkpoint(run, sample_checkpoint(2));
    keep_last(run, 1);
  };
  int64_t latest = 1;
  const int points = crash_everywhere(prepare, work, [&](int n) {
    const auto loaded = load_newest(run);
    ASSERT_TRUE(loaded.has_value()) << n;
    EXPECT_EQ(loaded->warnings, "") << n;
    EXPECT_GE(loaded->checkpoint.step, latest) << n;
    latest = loaded->checkpoint.step;
    EXPECT_TRUE(same_checkpoint(loaded->checkpoint, sample_checkpoint(latest))) << n;
    io::remove_leftovers(run);
    for (const fs::path& folder : list_checkpoints(run)) EXPECT_NO_THROW(load_checkpoint(folder));
    const auto entries = std::distance(fs::directory_iterator(run), fs::directory_iterator());
    EXPECT_EQ(entries, static_cast<int64_t>(list_checkpoints(run).size())) << n;
  });
  EXPECT_EQ(latest, 2);
  EXPECT_GE(points, 20);
  printf("%d crash points\n", points);
}

TEST(Crash, KilledBeforeEverySystemCallOfAReplacement) {
  const TestFolder dir;
  const fs::path run = dir / "run";
  const auto prepare = [&] {
    fs::remove_all(run);
    save_checkpoint(run, sample_checkpoint(1, 2));
  };
  const auto work = [&] { save_checkpoint(run, sample_checkpoint(1, 3)); };
  const int points = crash_everywhere(prepare, work, [&](int n) {
    const auto loaded = load_newest(run);
    ASSERT_TRUE(loaded.has_value()) << n;
    EXPECT_TRUE(same_checkpoint(loaded->checkpoint, sample_checkpoint(1, 2)) ||
                same_checkpoint(loaded->checkpoint, sample_checkpoint(1, 3)))
        << n;
    io::remove_leftovers(run);
    EXPECT_EQ(std::distance(fs::directory_iterator(run), fs::directory_iterator()), 1) << n;
  });
  EXPECT_GE(points, 15);
}

TEST(Faults, EveryFailingCallIsAnErrorAndLosesNothing) {
  const TestFolder dir;
  const fs::path run = dir / "run";
  int failures = 0;
  for (const int error : {ENOSPC, EIO, EROFS, EDQUOT}) {
    for (int n = 0;; ++n) {
      fs::remove_all(run);
      save_checkpoint(run, sample_checkpoint(1));
      std::string call, message;
      {
        Interception interception([&](const std::string&, int ordinal) {
          return ordinal == n ? Fault{Fault::fail, error} : Fault{};
        });
        try {
          save_checkpoint(run, sample_checkpoint(2));
        } catch (const Error& caught) {
          message = caught.what();
        }
        if (static_cast<int>(interception.log().size()) <= n) break;
        call = interception.log()[static_cast<size_t>(n)];
      }
      ++failures;
      EXPECT_TRUE(message.starts_with("[checkpoint] cannot ")) << call << ": " << message;
      EXPECT_NE(message.find(std::strerror(error)), std::string::npos) << call << ": " << message;
      EXPECT_NE(message.find("previous checkpoint kept: " + (run / "step-00000001").string()),
                std::string::npos)
          << call << ": " << message;
      EXPECT_TRUE(
          same_checkpoint(load_checkpoint(run / "step-00000001").checkpoint, sample_checkpoint(1)));
      const auto newest = load_newest(run);
      EXPECT_EQ(newest->warnings, "");
      const auto entries = std::distance(fs::directory_iterator(run), fs::directory_iterator());
      EXPECT_EQ(entries, newest->checkpoint.step) << call << " left something behind";
    }
  }
  EXPECT_GE(failures, 60);
}

TEST(Faults, ShortWritesAndSignalsChangeNothing) {
  const TestFolder dir;
  int disturbed = 0;
  {
    const Interception interception([&](const std::string& call, int ordinal) {
      if (call == "write" && ordinal % 3 != 0) return ++disturbed, Fault{Fault::short_write};
      const bool interruptible = call == "write" || call == "fsync" || call == "open";
      if (interruptible && ordinal % 3 == 0) return ++disturbed, Fault{Fault::fail, EINTR};
      return Fault{};
    });
    save_checkpoint(dir.path(), sample_checkpoint(3));
  }
  EXPECT_GT(disturbed, 20);
  EXPECT_TRUE(same_checkpoint(load_newest(dir.path())->checkpoint, sample_checkpoint(3)));
}

TEST(Faults, EverythingIsFlushedBeforeItGetsItsName) {
  const TestFolder dir;
  const Interception interception([](const std::string&, int) { return Fault{}; });
  save_checkpoint(dir.path(), sample_checkpoint(3));
  // A power failure may undo what was not flushed: contents, then names, then the rename, which is
  // flushed with the parent.
  std::vector<std::string> order;
  for (const std::string& call : interception.log()) {
    if (order.empty() || order.back() != call) order.push_back(call);
  }
  ASSERT_FALSE(order.empty());
  const std::string temporary = order.front().substr(order.front().find(' ') + 1);
  EXPECT_TRUE(temporary.starts_with(".step-00000003.tmp-" + std::to_string(::getpid()) + "-"));
  const std::vector<std::string> want{
      "mkdir " + temporary,
      "open model.safetensors",
      "write model.safetensors",
      "fsync model.safetensors",
      "open state.safetensors",
      "write state.safetensors",
      "fsync state.safetensors",
      "open state.json",
      "write state.json",
      "fsync state.json",
      "fsync " + temporary,
      "rename " + temporary + " step-00000003",
      "fsync " + dir.path().filename().string(),
  };
  EXPECT_EQ(order, want);
}

}  // namespace
}  // namespace espalier::train
