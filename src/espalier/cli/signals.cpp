// SPDX-License-Identifier: Apache-2.0
#include "espalier/cli/signals.h"

#include <csignal>

namespace espalier::cli {
namespace {

// The one thing a signal handler may touch.
volatile std::sig_atomic_t noted = 0;

void note(int signal) { noted = signal; }

}  // namespace

void watch_signals() {
  struct sigaction action {};
  action.sa_handler = note;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART | SA_RESETHAND;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  std::signal(SIGXFSZ, SIG_IGN);
}

int stop_signal() { return noted; }

}  // namespace espalier::cli
