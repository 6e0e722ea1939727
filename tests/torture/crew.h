// SPDX-License-Identifier: Apache-2.0
// The workers of one run: processes of the real program that are started, frozen and killed.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "tests/support/program.h"

namespace espalier::torture {

using Random = std::mt19937_64;
using TimePoint = std::chrono::steady_clock::time_point;

struct CrewOptions {
  std::vector<std::string> arguments;    // of every worker
  std::vector<std::string> environment;  // of every worker, "NAME=value"
  rlim_t file_limit = 0;                 // 0: none
  /// What a worker is writing at this moment, for one that stands still or runs.
  std::function<std::vector<std::string>(pid_t)> writing;
  /// After it everything gives up with an error.
  TimePoint deadline;
};

class Crew {
 public:
  Crew(CrewOptions options, int workers, Random& random);

  /// Starts those that are not running. A worker that ended by itself with anything but 0 is an
  /// error with what it said.
  void start_missing();
  /// Has one ended with 0? Then the run is complete.
  bool complete() const { return complete_; }

  /// Freezes a random worker at a random moment, `aimed`: while it writes; looks at what it is
  /// writing, and kills it. False when the run completed before.
  bool kill_one(bool aimed);
  /// Freezes one for `seconds`, while it writes if it can be caught.
  void pause_one(double seconds);
  /// Freezes one while it writes a shard, waits until the others have completed the run without it,
  /// and lets it go on. False when the run completed before.
  bool pause_until_complete();
  /// Waits until all have ended by themselves with 0.
  void finish();
  /// Waits until all have ended by themselves; what each was.
  std::vector<test::Ran> wait();

  int64_t kills() const { return kills_; }
  int64_t kills_while_writing() const { return kills_while_writing_; }

 private:
  using Worker = std::unique_ptr<test::Process>;
  Worker start() const;
  bool reap(Worker& worker);
  Worker* pick();
  bool await(const std::function<bool()>& condition, double seconds) const;
  void let_pass(const Worker& worker, uint64_t count) const;
  bool catch_writing(Worker& worker, const std::string& what);
  void sleep_up_to(double seconds);

  CrewOptions options_;
  Random& random_;
  std::vector<Worker> workers_;  // null: not running
  bool complete_ = false;
  int64_t kills_ = 0, kills_while_writing_ = 0;
};

}  // namespace espalier::torture
