// SPDX-License-Identifier: Apache-2.0
#include "espalier/cli/screen.h"

#include <unistd.h>

#include <cstdio>

#include "espalier/base/error.h"
#include "espalier/cli/signals.h"

namespace espalier::cli {

Screen::Screen() : terminal_(isatty(STDOUT_FILENO) != 0) {}

Screen::~Screen() {
  if (shown_) std::fputs("\n", stdout);
}

train::JobEvents Screen::events() {
  train::JobEvents events;
  events.say = [this](std::string_view text) { line(text); };
  events.on_log = [this](const train::Progress& p) {
    if (!terminal_) line(train::progress_line(p));
  };
  events.on_step = [this](const train::Progress& p) {
    if (terminal_) show(p);
  };
  events.stop_signal = stop_signal;
  return events;
}

void Screen::line(std::string_view text) {
  if (shown_) std::fputs("\r\x1b[K", stdout);
  shown_ = false;
  fmt::print("{}\n", text);
  std::fflush(stdout);
}

void Screen::show(const train::Progress& p) {
  const auto now = Clock::now();
  if (shown_ && now - last_ < std::chrono::milliseconds(100) && p.record.step < p.steps) return;
  last_ = now;
  shown_ = true;
  fmt::print("\r\x1b[K{}", train::progress_line(p));
  std::fflush(stdout);
}

}  // namespace espalier::cli
