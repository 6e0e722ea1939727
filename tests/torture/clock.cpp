// SPDX-License-Identifier: Apache-2.0
// A clock that jumps, for LD_PRELOAD: the time of day that a process sees is off by days, another
// number of them at every call. What measures durations (CLOCK_MONOTONIC) stays true.
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <atomic>

namespace {

constexpr int64_t kDay = 24 * 60 * 60;

/// Seconds in [-1000, 1000] days, from the process and how often it has asked.
int64_t jump() {
  static std::atomic<uint64_t> calls{0};
  uint64_t x = (static_cast<uint64_t>(::getpid()) << 32) + ++calls;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return static_cast<int64_t>((x >> 33) % 2001) * kDay - 1000 * kDay;
}

template <typename Function>
Function next(const char* name) {
  return reinterpret_cast<Function>(::dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {
int clock_gettime(clockid_t clock, timespec* time) noexcept {
  static const auto real = next<int (*)(clockid_t, timespec*)>("clock_gettime");
  const int result = real(clock, time);
  if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
    time->tv_sec += jump();
  }
  return result;
}
int gettimeofday(timeval* time, void* zone) noexcept {
  static const auto real = next<int (*)(timeval*, void*)>("gettimeofday");
  const int result = real(time, zone);
  if (result == 0) time->tv_sec += jump();
  return result;
}
time_t time(time_t* out) noexcept {
  static const auto real = next<time_t (*)(time_t*)>("time");
  const time_t now = real(nullptr) + jump();
  if (out != nullptr) *out = now;
  return now;
}
}
