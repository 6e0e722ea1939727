// SPDX-License-Identifier: Apache-2.0
#include "espalier/cli/extract_screen.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "espalier/base/text.h"
#include "espalier/cli/signals.h"

namespace espalier::cli {
namespace {

constexpr auto kRewrite = std::chrono::milliseconds(200);
constexpr auto kLines = std::chrono::seconds(5);
constexpr int64_t kBar = 20;

}  // namespace

std::string progress_line(const extract::ExtractProgress& p) {
  const int64_t full = p.shards > 0 ? kBar * p.shards_done / p.shards : 0;
  std::string text = fmt::format("[{:#<{}}{:-<{}}] {} of {}{} shards", "", full, "", kBar - full,
                                 p.shards_done, p.shards, p.planned ? "" : " or more");
  const double seconds = std::max(p.compute_seconds, 1e-3);
  const auto rate = [&](int64_t count) { return static_cast<double>(count) / seconds; };
  text += fmt::format(", {} samples, {:.3g} samples/s, {:.0f} tokens/s, {}/s", p.made_samples,
                      rate(p.computed_samples), rate(p.computed_tokens),
                      human_bytes(static_cast<int64_t>(rate(p.bytes))));
  text += fmt::format(", {} compiled", p.compiles);
  if (p.remaining >= 0.0) text += fmt::format(", {} left", human_duration(p.remaining));
  return text;
}

ExtractScreen::ExtractScreen(bool quiet) : quiet_(quiet), terminal_(isatty(STDERR_FILENO) != 0) {}

ExtractScreen::~ExtractScreen() {
  if (shown_) std::fputs("\n", stderr);
}

extract::ExtractEvents ExtractScreen::events() {
  extract::ExtractEvents events;
  events.line = [this](const std::string& text) { line(text); };
  events.progress = [this](const extract::ExtractProgress& p) { show(p); };
  events.stop = stop_signal;
  return events;
}

void ExtractScreen::line(std::string_view text) {
  if (quiet_) return;
  if (shown_) std::fputs("\r\x1b[K", stderr);
  shown_ = false;
  fmt::print(stderr, "{}\n", text);
}

void ExtractScreen::show(const extract::ExtractProgress& p) {
  if (quiet_) return;
  const auto now = Clock::now();
  const bool last = p.planned && p.shards_done == p.shards;
  const bool moved = p.shards_done != last_done_ && p.compute_seconds > 0.0;
  if (terminal_) {
    if (shown_ && now - last_ < kRewrite && !last) return;
    fmt::print(stderr, "\r\x1b[K{}", progress_line(p));
    std::fflush(stderr);
    shown_ = true;
  } else {
    if (!moved || (now - last_ < kLines && !last)) return;
    fmt::print(stderr, "{}\n", progress_line(p));
  }
  last_done_ = p.shards_done;
  last_ = now;
}

}  // namespace espalier::cli
