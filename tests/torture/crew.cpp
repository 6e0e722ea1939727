// SPDX-License-Identifier: Apache-2.0
#include "tests/torture/crew.h"

#include <algorithm>
#include <thread>

#include "espalier/base/error.h"
#include "tests/torture/watch.h"

namespace espalier::torture {
namespace {

using std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

constexpr double kGlance = 0.0003;       // between two looks at a worker that shall be caught
constexpr double kPatience = 5.0;        // for one that does not write
constexpr uint64_t kMostPassed = 8;      // writes that are let pass before one is aimed at
constexpr int kAims = 8;                 // looks again when a write ended before the worker stood
constexpr double kLongestWrite = 0.002;  // random moments within a write
constexpr double kLongestBlind = 0.5;    // random moments after a start

void sleep_for(double seconds) { std::this_thread::sleep_for(Seconds(seconds)); }

}  // namespace

Crew::Crew(CrewOptions options, int workers, Random& random)
    : options_(std::move(options)), random_(random), workers_(static_cast<size_t>(workers)) {
  start_missing();
}

Crew::Worker Crew::start() const {
  return std::make_unique<test::Process>(options_.arguments, options_.file_limit,
                                         options_.environment);
}

/// True when it runs no more; throws when it failed.
bool Crew::reap(Worker& worker) {
  if (!worker) return true;
  if (worker->running()) return false;
  const test::Ran ran = worker->wait();
  worker.reset();
  ESPALIER_CHECK(ran.code == 0, ErrorKind::check, "torture", "a worker ended with {}: {}", ran.code,
                 ran.err);
  complete_ = true;
  return true;
}

void Crew::start_missing() {
  for (Worker& worker : workers_) {
    if (reap(worker) && !complete_) worker = start();
  }
}

/// Waits for a condition; false after `seconds`. Past the deadline it throws.
bool Crew::await(const std::function<bool()>& condition, double seconds) const {
  const TimePoint end =
      steady_clock::now() + std::chrono::duration_cast<steady_clock::duration>(Seconds(seconds));
  while (!condition()) {
    const TimePoint now = steady_clock::now();
    ESPALIER_CHECK(now < options_.deadline, ErrorKind::check, "torture",
                   "out of time: the run is not complete; give it more --seconds");
    if (now > end) return false;
    sleep_for(kGlance);
  }
  return true;
}

void Crew::sleep_up_to(double seconds) {
  sleep_for(std::uniform_real_distribution<double>(0.0, seconds)(random_));
}

/// A random worker that runs, or null when the run is complete.
Crew::Worker* Crew::pick() {
  start_missing();
  std::vector<Worker*> running;
  for (Worker& worker : workers_) {
    if (worker) running.push_back(&worker);
  }
  return complete_ || running.empty() ? nullptr : running[random_() % running.size()];
}

/// Looks on while a worker begins `count` writes, or ends, or is idle for long.
void Crew::let_pass(const Worker& worker, uint64_t count) const {
  for (; count > 0 && worker->running(); --count) {
    const std::vector<std::string> before = options_.writing(worker->pid());
    await(
        [&] {
          const std::vector<std::string> files = options_.writing(worker->pid());
          return (!files.empty() && files != before) || !worker->running();
        },
        kPatience);
  }
}

/// Freezes a worker while it writes a file whose path contains `what`. False: it ended, or wrote
/// nothing for a while; then it is not frozen.
bool Crew::catch_writing(Worker& worker, const std::string& what) {
  const auto writes = [&] {
    const std::vector<std::string> files = options_.writing(worker->pid());
    return std::any_of(files.begin(), files.end(), [&](const std::string& file) {
      return file.find(what) != std::string::npos;
    });
  };
  for (int aim = 0; aim < kAims; ++aim) {
    if (!await([&] { return !worker->running() || writes(); }, kPatience)) return false;
    if (!worker->running()) return false;
    sleep_up_to(kLongestWrite);
    if (!freeze(worker->pid())) return false;
    if (writes()) return true;
    worker->signal(SIGCONT);
  }
  return false;
}

bool Crew::kill_one(bool aimed) {
  Worker* victim = pick();
  if (victim == nullptr) return false;
  if (aimed) {
    let_pass(*victim, random_() % kMostPassed);
    catch_writing(*victim, "");
  } else {
    sleep_up_to(kLongestBlind);
    freeze((*victim)->pid());
  }
  const bool writing = !options_.writing((*victim)->pid()).empty();
  (*victim)->signal(SIGKILL);
  const test::Ran ran = (*victim)->wait();
  victim->reset();
  if (ran.code == 0) {  // it was faster
    complete_ = true;
    return false;
  }
  ESPALIER_CHECK(ran.code == 128 + SIGKILL, ErrorKind::check, "torture",
                 "a worker ended with {}: {}", ran.code, ran.err);
  ++kills_;
  kills_while_writing_ += writing;
  return true;
}

void Crew::pause_one(double seconds) {
  Worker* worker = pick();
  if (worker == nullptr) return;
  if (!catch_writing(*worker, "") && !freeze((*worker)->pid())) return;
  sleep_for(seconds);
  (*worker)->signal(SIGCONT);
}

bool Crew::pause_until_complete() {
  Worker* frozen = pick();
  while (frozen != nullptr && !catch_writing(*frozen, "shard-")) frozen = pick();
  if (frozen == nullptr) return false;
  const Worker sleeper = std::move(*frozen);
  *frozen = start();
  try {
    finish();
  } catch (...) {
    sleeper->signal(SIGCONT);
    throw;
  }
  sleeper->signal(SIGCONT);
  const test::Ran ran = sleeper->wait();
  ESPALIER_CHECK(ran.code == 0, ErrorKind::check, "torture",
                 "a worker that slept until the run was complete ended with {}: {}", ran.code,
                 ran.err);
  return true;
}

void Crew::finish() {
  constexpr double kEver = 1e6;  // the deadline ends it
  for (Worker& worker : workers_) {
    await([&] { return reap(worker); }, kEver);
  }
  complete_ = true;
}

std::vector<test::Ran> Crew::wait() {
  std::vector<test::Ran> all;
  for (Worker& worker : workers_) {
    if (worker) all.push_back(worker->wait());
    worker.reset();
  }
  return all;
}

}  // namespace espalier::torture
