// SPDX-License-Identifier: Apache-2.0
// A process that dies at each of its system calls in turn.
#pragma once

#include <gtest/gtest.h>

#include <csignal>
#include <string>

#include "tests/syscalls/child.h"
#include "tests/syscalls/syscalls.h"

namespace espalier {

/// Runs `work` in a child that dies at the n-th intercepted call, for every n; `check(n)` after
/// each. Returns how many crash points there were.
template <typename Prepare, typename Work, typename Check>
int crash_everywhere(Prepare prepare, Work work, Check check) {
  for (int n = 0;; ++n) {
    prepare();
    const int code = in_child([&] {
      const Interception interception([n](const std::string&, int ordinal) {
        return Fault{ordinal == n ? Fault::kill : Fault::none};
      });
      work();
      return 0;
    });
    check(n);
    if (code == 0) return n;
    if (code != 128 + SIGKILL) ADD_FAILURE() << "exit code " << code << " at call " << n;
  }
}

}  // namespace espalier
