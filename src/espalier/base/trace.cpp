// SPDX-License-Identifier: Apache-2.0
#include "espalier/base/trace.h"

#include <fmt/format.h>

#include "espalier/base/text.h"

namespace espalier {

void TraceWriter::add(std::string_view name, std::string_view category, int thread,
                      Clock::time_point begin, Clock::time_point end, Arguments arguments) {
  using Microseconds = std::chrono::duration<double, std::micro>;
  Span span{std::string(name),
            std::string(category),
            thread,
            Microseconds(begin - origin_).count(),
            Microseconds(end - begin).count(),
            std::move(arguments)};
  const std::lock_guard lock(mutex_);
  spans_.push_back(std::move(span));
}

void TraceWriter::name_thread(int thread, std::string_view name) {
  const std::lock_guard lock(mutex_);
  thread_names_.emplace_back(thread, name);
}

size_t TraceWriter::size() const {
  const std::lock_guard lock(mutex_);
  return spans_.size();
}

std::string TraceWriter::json() const {
  const std::lock_guard lock(mutex_);
  std::string out = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[";
  const char* separator = "\n";
  for (const auto& [thread, name] : thread_names_) {
    out +=
        fmt::format(R"({}{{"ph":"M","name":"thread_name","pid":1,"tid":{},"args":{{"name":{}}}}})",
                    separator, thread, json_quote(name));
    separator = ",\n";
  }
  for (const Span& span : spans_) {
    out +=
        fmt::format(R"({}{{"ph":"X","name":{},"cat":{},"pid":1,"tid":{},"ts":{:.3f},"dur":{:.3f})",
                    separator, json_quote(span.name), json_quote(span.category), span.thread,
                    span.start_us, span.duration_us);
    if (!span.arguments.empty()) {
      out += ",\"args\":{";
      const char* comma = "";
      for (const auto& [key, value] : span.arguments) {
        out += fmt::format("{}{}:{}", comma, json_quote(key), json_quote(value));
        comma = ",";
      }
      out += '}';
    }
    out += '}';
    separator = ",\n";
  }
  return out + "\n]}\n";
}

}  // namespace espalier
