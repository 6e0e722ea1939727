// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/crew.h"

#include <utility>

namespace espalier::extract {

Crew::~Crew() {
  stop();
  join();
}

void Crew::start(std::function<void()> work) {
  threads_.emplace_back([this, work = std::move(work)] { run(work); });
}

void Crew::run(const std::function<void()>& work) {
  try {
    work();
  } catch (...) {
    {
      const std::lock_guard lock(mutex_);
      if (!error_) error_ = std::current_exception();
    }
    stop();
  }
}

void Crew::stop() {
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(stopping_, true)) return;
    stopped_.notify_all();
  }
  if (on_stop_) on_stop_();
}

bool Crew::stopping() const {
  const std::lock_guard lock(mutex_);
  return stopping_;
}

bool Crew::wait(double seconds) {
  std::unique_lock lock(mutex_);
  return stopped_.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return stopping_; });
}

void Crew::join() {
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void Crew::rethrow() const {
  const std::lock_guard lock(mutex_);
  if (error_) std::rethrow_exception(error_);
}

}  // namespace espalier::extract
