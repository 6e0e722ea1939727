// SPDX-License-Identifier: Apache-2.0
#include "tests/syscalls/syscalls.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <filesystem>

namespace espalier {
namespace {
std::atomic<Interception*> active{nullptr};
thread_local bool deciding = false;  // the decision itself may use the same calls

bool intercepted() { return active.load() != nullptr && !deciding; }

std::string leaf(const char* path) { return std::filesystem::path(path).filename().string(); }

std::string leaf_of(int fd) {
  std::error_code ignored;
  const auto link = std::filesystem::path("/proc/self/fd") / std::to_string(fd);
  return std::filesystem::read_symlink(link, ignored).filename().string();
}

/// The fault for this call; kills the process when that is the fault.
Fault consult(const char* call, const std::string& what) {
  Interception* const interception = active.load();
  if (interception == nullptr || deciding) return {};
  deciding = true;
  const Fault fault = interception->consult(call, what);
  deciding = false;
  if (fault.kind == Fault::kill) ::kill(::getpid(), SIGKILL);
  return fault;
}

/// Either the injected failure or the real call.
template <typename Call>
int faulty(const char* name, const std::string& what, Call call) {
  const Fault fault = consult(name, what);
  if (fault.kind == Fault::fail) {
    errno = fault.error;
    return -1;
  }
  return static_cast<int>(call());
}
}  // namespace

Interception::Interception(std::function<Fault(const std::string&, int)> decide)
    : decide_(std::move(decide)) {
  active = this;
}
Interception::~Interception() { active = nullptr; }

std::vector<std::string> Interception::log() const {
  const std::lock_guard lock(mutex_);
  return log_;
}

Fault Interception::consult(const std::string& call, const std::string& what) {
  const std::lock_guard lock(mutex_);
  const int ordinal = static_cast<int>(log_.size());
  log_.push_back(call + " " + what);
  return decide_(call, ordinal);
}

}  // namespace espalier

using espalier::Fault;
using espalier::faulty;
using espalier::leaf;

extern "C" {
ssize_t write(int fd, const void* data, size_t size) {
  Fault fault;
  if (espalier::intercepted() && fd > 2) fault = espalier::consult("write", espalier::leaf_of(fd));
  if (fault.kind == Fault::fail) {
    errno = fault.error;
    return -1;
  }
  if (fault.kind == Fault::short_write) size = std::min<size_t>(size, 1 + size / 3);
  return syscall(SYS_write, fd, data, size);
}
int fsync(int fd) {
  const std::string what = espalier::intercepted() ? espalier::leaf_of(fd) : "";
  return faulty("fsync", what, [&] { return syscall(SYS_fsync, fd); });
}
int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const unsigned mode = (flags & O_CREAT) != 0 ? va_arg(arguments, unsigned) : 0u;
  va_end(arguments);
  const auto call = [&] { return syscall(SYS_openat, AT_FDCWD, path, flags, mode); };
  if ((flags & O_CREAT) == 0) return static_cast<int>(call());
  return faulty("open", leaf(path), call);
}
int mkdir(const char* path, mode_t mode) noexcept {
  return faulty("mkdir", leaf(path), [&] { return syscall(SYS_mkdirat, AT_FDCWD, path, mode); });
}
int rename(const char* from, const char* to) noexcept {
  return faulty("rename", leaf(from) + " " + leaf(to),
                [&] { return syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0); });
}
int renameat2(int from_fd, const char* from, int to_fd, const char* to, unsigned flags) noexcept {
  return faulty("exchange", leaf(from) + " " + leaf(to),
                [&] { return syscall(SYS_renameat2, from_fd, from, to_fd, to, flags); });
}
int link(const char* from, const char* to) noexcept {
  return faulty("link", leaf(from) + " " + leaf(to),
                [&] { return syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0); });
}
int unlink(const char* path) noexcept {
  return faulty("remove", leaf(path), [&] { return syscall(SYS_unlinkat, AT_FDCWD, path, 0); });
}
int unlinkat(int fd, const char* path, int flags) noexcept {
  return faulty("remove", leaf(path), [&] { return syscall(SYS_unlinkat, fd, path, flags); });
}
}
