// SPDX-License-Identifier: Apache-2.0
// Work in a child process: for limits that must not stay, and for processes that are killed.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <exception>

namespace espalier {

/// Forks; the child runs `work` and exits with its result (99 for an exception).
template <typename Work>
pid_t start_child(Work work) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  int code = 99;
  try {
    code = work();
  } catch (const std::exception& error) {
    fprintf(stderr, "child: %s\n", error.what());
  }
  ::_exit(code);
}

/// The child's exit code, or 128 + the signal that ended it.
inline int wait_for(pid_t child) {
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

template <typename Work>
int in_child(Work work) {
  return wait_for(start_child(work));
}

}  // namespace espalier
