// SPDX-License-Identifier: Apache-2.0
// Chrome trace events: what `--profile` collects, for chrome://tracing or ui.perfetto.dev.
// Format: "Trace Event Format", complete events ("X") and thread names ("M").
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace espalier {

class TraceWriter {
 public:
  using Clock = std::chrono::steady_clock;
  using Arguments = std::vector<std::pair<std::string, std::string>>;

  /// Times are shown relative to `origin`.
  explicit TraceWriter(Clock::time_point origin = Clock::now()) : origin_(origin) {}

  /// One span of work on `thread` (a lane of the picture). Safe to call from several threads.
  void add(std::string_view name, std::string_view category, int thread, Clock::time_point begin,
           Clock::time_point end, Arguments arguments = {});
  void name_thread(int thread, std::string_view name);

  size_t size() const;
  /// The whole trace as one JSON object.
  std::string json() const;

 private:
  struct Span {
    std::string name, category;
    int thread;
    double start_us, duration_us;
    Arguments arguments;
  };
  Clock::time_point origin_;
  mutable std::mutex mutex_;
  std::vector<Span> spans_;
  std::vector<std::pair<int, std::string>> thread_names_;
};

/// Adds the span from its construction to its destruction; a null writer makes it free.
class TraceScope {
 public:
  TraceScope(TraceWriter* writer, std::string_view name, std::string_view category, int thread = 0)
      : writer_(writer), name_(name), category_(category), thread_(thread) {
    if (writer_ != nullptr) begin_ = TraceWriter::Clock::now();
  }
  ~TraceScope() {
    if (writer_ == nullptr) return;
    writer_->add(name_, category_, thread_, begin_, TraceWriter::Clock::now());
  }
  TraceScope(const TraceScope&) = delete;
  TraceScope& operator=(const TraceScope&) = delete;

 private:
  TraceWriter* writer_;
  std::string_view name_, category_;
  int thread_;
  TraceWriter::Clock::time_point begin_{};
};

}  // namespace espalier
