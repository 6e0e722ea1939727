// SPDX-License-Identifier: Apache-2.0
// Integer arithmetic on sizes that a file or a user chose: overflow is an error, never a wrap.
#pragma once

#include <concepts>
#include <string_view>
#include <utility>

#include "espalier/base/error.h"

namespace espalier {

/// Who computes what, for the message of a failed check.
struct CheckedFor {
  ErrorKind kind = ErrorKind::user;
  std::string_view stage;
  std::string_view what;
};

/// a * b, or an error that shows both.
template <std::integral T>
T checked_mul(T a, std::type_identity_t<T> b, const CheckedFor& where) {
  T result{};
  ESPALIER_CHECK(!__builtin_mul_overflow(a, b, &result), where.kind, where.stage,
                 "{} overflows {} bits: {} * {}", where.what, sizeof(T) * 8, a, b);
  return result;
}

/// a + b, or an error that shows both.
template <std::integral T>
T checked_add(T a, std::type_identity_t<T> b, const CheckedFor& where) {
  T result{};
  ESPALIER_CHECK(!__builtin_add_overflow(a, b, &result), where.kind, where.stage,
                 "{} overflows {} bits: {} + {}", where.what, sizeof(T) * 8, a, b);
  return result;
}

/// The same value as another integer type, or an error when that type cannot hold it.
template <std::integral To, std::integral From>
To checked_narrow(From value, const CheckedFor& where) {
  ESPALIER_CHECK(std::in_range<To>(value), where.kind, where.stage,
                 "{} = {} does not fit {} {} bits", where.what, value,
                 std::is_signed_v<To> ? "signed" : "unsigned", sizeof(To) * 8);
  return static_cast<To>(value);
}

}  // namespace espalier
