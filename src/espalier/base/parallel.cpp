// SPDX-License-Identifier: Apache-2.0
#include "espalier/base/parallel.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace espalier {

int thread_count(int threads) {
  if (threads > 0) return threads;
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

void parallel_for(int64_t count, int threads, const std::function<void(int64_t)>& work) {
  std::atomic<int64_t> next = 0;
  std::mutex mutex;
  std::exception_ptr error;
  int64_t failed = count;  // the lowest piece that threw
  const auto take = [&] {
    for (;;) {
      const int64_t i = next.fetch_add(1);
      if (i >= count) return;
      try {
        work(i);
      } catch (...) {
        const std::lock_guard lock(mutex);
        next.store(count);
        if (i < failed) {
          failed = i;
          error = std::current_exception();
        }
      }
    }
  };
  std::vector<std::jthread> helpers;
  const int64_t wanted = std::min<int64_t>(thread_count(threads), count);
  for (int64_t i = 1; i < wanted; ++i) helpers.emplace_back(take);
  take();
  for (std::jthread& helper : helpers) helper.join();
  if (error) std::rethrow_exception(error);
}

}  // namespace espalier
