// SPDX-License-Identifier: Apache-2.0
// System calls of this test program that can be made to fail, fall short, or be the last one.
// The definitions in syscalls.cpp stand in for libc's, for the library and for libstdc++ alike.
#pragma once

#include <functional>
#include <mutex>
#include <string>
#include <vector>

namespace espalier {

/// What happens at one intercepted call. `result` is what it returns with errno = `error`.
struct Fault {
  enum Kind { none, fail, kill, short_write } kind = none;
  int error = 0;
};

/// Asked before every open that creates, mkdir, write, fsync, rename, renameat2, link and unlink of
/// any thread, one after the other; alive for a scope.
class Interception {
 public:
  /// `decide(name of the call, its ordinal)`
  explicit Interception(std::function<Fault(const std::string&, int)> decide);
  ~Interception();
  Interception(const Interception&) = delete;
  Interception& operator=(const Interception&) = delete;

  /// "write model.safetensors", "fsync .step-…", "rename .step-… step-…" in order.
  std::vector<std::string> log() const;

  Fault consult(const std::string& call, const std::string& what);

 private:
  std::function<Fault(const std::string&, int)> decide_;
  mutable std::mutex mutex_;
  std::vector<std::string> log_;
};

}  // namespace espalier
