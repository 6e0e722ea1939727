// SPDX-License-Identifier: Apache-2.0
// Errors: one exception class with a category. The library throws; only `cli` prints and exits.
//
// Message form: `[stage] rule broken: values with shape, dtype, axis, at path or file:tensor;
// nearest match or next step`. Frames pushed with ESPALIER_CONTEXT are appended as "(at ...)".
#pragma once

#include <fmt/format.h>

#include <exception>
#include <functional>
#include <string>
#include <string_view>

namespace espalier {

enum class ErrorKind { check, user, data, unsupported, device, internal };

/// Exit code of the program for an error of this kind: 1, 2, 3, 4, 5, 70.
int exit_code(ErrorKind kind);
std::string_view name(ErrorKind kind);

class Error : public std::exception {
 public:
  Error(ErrorKind kind, std::string_view stage, std::string_view text);
  const char* what() const noexcept override { return message_.c_str(); }
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
  std::string message_;
};

/// Throws an Error built from a fmt format string.
template <typename... Args>
[[noreturn]] void fail(ErrorKind kind, std::string_view stage, fmt::format_string<Args...> text,
                       Args&&... args) {
  throw Error(kind, stage, fmt::format(text, std::forward<Args>(args)...));
}

/// A lazily formatted frame, alive for the enclosing scope of this thread.
class ErrorContext {
 public:
  explicit ErrorContext(std::function<std::string()> text);
  ~ErrorContext();
  ErrorContext(const ErrorContext&) = delete;
  ErrorContext& operator=(const ErrorContext&) = delete;

 private:
  friend class Error;
  std::function<std::string()> text_;
  ErrorContext* outer_;
};

}  // namespace espalier

#define ESPALIER_CONCAT_(a, b) a##b
#define ESPALIER_CONCAT(a, b) ESPALIER_CONCAT_(a, b)
/// ESPALIER_CONTEXT("layer {}", i): text for errors thrown below this point in the scope.
#define ESPALIER_CONTEXT(...)                                 \
  ::espalier::ErrorContext ESPALIER_CONCAT(espalier_context_, \
                                           __LINE__)([&] { return ::fmt::format(__VA_ARGS__); })
/// Checks a condition that a user or a file can break; formats only on failure.
#define ESPALIER_CHECK(condition, kind, stage, ...)                   \
  do {                                                                \
    if (!(condition)) ::espalier::fail((kind), (stage), __VA_ARGS__); \
  } while (false)
/// Checks an invariant of our own code, in every build.
#define ESPALIER_ASSERT(condition)                                                           \
  do {                                                                                       \
    if (!(condition))                                                                        \
      ::espalier::fail(::espalier::ErrorKind::internal, "assert", "{} at {}:{}", #condition, \
                       __FILE__, __LINE__);                                                  \
  } while (false)
