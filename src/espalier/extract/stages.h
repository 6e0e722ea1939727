// SPDX-License-Identifier: Apache-2.0
// The stages that samples and their activations go through, and how long each was busy.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace espalier::extract {

enum class Stage : uint8_t {
  read,      // lines of files, to tasks, texts or ids
  prompt,    // tasks to texts
  tokenize,  // texts to ids
  plan,      // ids to batches and shards of the run's plan
  claim,     // the next shard's lease and samples
  compute,   // forward passes, with what is compiled at the first of a shape
  copy,      // activations to the shard in memory, rounded
  encode,    // compression, checksums, the file's layout
  write,     // bytes to the store
  commit,    // until the store has them durably
};
inline constexpr int kStages = 10;
std::string_view name(Stage stage);

/// Busy time, added up over the threads of a stage.
class StageTimes {
 public:
  void add(Stage stage, std::chrono::steady_clock::duration time) {
    times_[static_cast<size_t>(stage)] +=
        std::chrono::duration_cast<std::chrono::nanoseconds>(time).count();
  }
  double seconds(Stage stage) const {
    return 1e-9 * static_cast<double>(times_[static_cast<size_t>(stage)].load());
  }

 private:
  std::array<std::atomic<int64_t>, kStages> times_{};
};

/// Adds the time from its construction to its destruction.
class StageTimer {
 public:
  StageTimer(StageTimes& times, Stage stage) : times_(times), stage_(stage) {}
  ~StageTimer() { times_.add(stage_, std::chrono::steady_clock::now() - begin_); }
  StageTimer(const StageTimer&) = delete;
  StageTimer& operator=(const StageTimer&) = delete;

 private:
  StageTimes& times_;
  Stage stage_;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

/// One stage of a report.
struct StageShare {
  std::string name;
  double seconds = 0.0;
  double share = 0.0;  // of the run's time that the threads of this stage had
};

/// All stages, and which one the others waited for: the busiest of the threads that had the least
/// spare time. A thread has one stage or several.
struct StageReport {
  std::vector<StageShare> stages;
  std::string limit;
};
/// `seconds` is how long the run took, with that many threads that compute and that write.
StageReport report_stages(const StageTimes& times, double seconds, int64_t computing,
                          int64_t writing);

}  // namespace espalier::extract
