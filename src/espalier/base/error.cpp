// SPDX-License-Identifier: Apache-2.0
#include "espalier/base/error.h"

namespace espalier {
namespace {
thread_local ErrorContext* innermost_context = nullptr;
}

int exit_code(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::check:
      return 1;
    case ErrorKind::user:
      return 2;
    case ErrorKind::data:
      return 3;
    case ErrorKind::unsupported:
      return 4;
    case ErrorKind::device:
      return 5;
    case ErrorKind::internal:
      break;
  }
  return 70;
}

std::string_view name(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::check:
      return "check";
    case ErrorKind::user:
      return "user";
    case ErrorKind::data:
      return "data";
    case ErrorKind::unsupported:
      return "unsupported";
    case ErrorKind::device:
      return "device";
    case ErrorKind::internal:
      break;
  }
  return "internal";
}

Error::Error(ErrorKind kind, std::string_view stage, std::string_view text)
    : kind_(kind), message_(fmt::format("[{}] {}", stage, text)) {
  for (const ErrorContext* c = innermost_context; c != nullptr; c = c->outer_) {
    message_ += fmt::format(" (at {})", c->text_());
  }
}

ErrorContext::ErrorContext(std::function<std::string()> text)
    : text_(std::move(text)), outer_(innermost_context) {
  innermost_context = this;
}

ErrorContext::~ErrorContext() { innermost_context = outer_; }

}  // namespace espalier
