// SPDX-License-Identifier: Apache-2.0
// Threads that work on one thing: the first error of any of them ends all.
#pragma once

#include <chrono>
#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace espalier::extract {

class Crew {
 public:
  /// `on_stop` is called once, by whoever stops the crew: it closes queues, so that nobody waits.
  explicit Crew(std::function<void()> on_stop) : on_stop_(std::move(on_stop)) {}
  /// Stops and waits.
  ~Crew();
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  /// Runs `work` in a thread of its own.
  void start(std::function<void()> work);
  /// Runs `work` here; like in a thread, an error of it is kept and stops the crew.
  void run(const std::function<void()>& work);
  void stop();
  bool stopping() const;
  /// Waits for `seconds`, or until the crew is stopped. True when it is.
  bool wait(double seconds);
  /// Waits for all threads.
  void join();
  /// Throws the first error there was.
  void rethrow() const;

 private:
  std::function<void()> on_stop_;
  mutable std::mutex mutex_;
  std::condition_variable stopped_;
  bool stopping_ = false;
  std::exception_ptr error_;
  std::vector<std::thread> threads_;
};

}  // namespace espalier::extract
