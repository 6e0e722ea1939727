// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <optional>
#include <utility>

namespace espalier::extract {

/// Hands things from threads to threads, in order; holds at most `capacity` of them.
template <typename T>
class BoundedQueue {
 public:
  explicit BoundedQueue(size_t capacity) : capacity_(capacity) {}

  /// Waits for room. False when the queue is closed: the value is dropped.
  bool push(T value) {
    std::unique_lock lock(mutex_);
    room_.wait(lock, [&] { return closed_ || values_.size() < capacity_; });
    if (closed_) return false;
    values_.push_back(std::move(value));
    filled_.notify_one();
    return true;
  }

  /// Waits for a value. Nothing when the queue is closed and empty.
  std::optional<T> pop() {
    std::unique_lock lock(mutex_);
    filled_.wait(lock, [&] { return closed_ || !values_.empty(); });
    if (values_.empty()) return std::nullopt;
    std::optional<T> value(std::move(values_.front()));
    values_.pop_front();
    room_.notify_one();
    return value;
  }

  /// Nothing is taken any more; what is there can still be popped.
  void close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    room_.notify_all();
    filled_.notify_all();
  }

 private:
  const size_t capacity_;
  std::mutex mutex_;
  std::condition_variable room_, filled_;
  std::deque<T> values_;
  bool closed_ = false;
};

/// A number of places that are taken and given back.
class Places {
 public:
  explicit Places(size_t free) : free_(free) {}
  /// Waits for a free place. False when there is no use in waiting any more.
  bool take() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return closed_ || free_ > 0; });
    if (closed_) return false;
    --free_;
    return true;
  }
  void give() {
    const std::lock_guard lock(mutex_);
    ++free_;
    changed_.notify_one();
  }
  void close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  size_t free_;
  bool closed_ = false;
};

}  // namespace espalier::extract
