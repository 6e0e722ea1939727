// SPDX-License-Identifier: Apache-2.0
// UTF-8 as bytes and code points. Text is checked once, where it enters; behind that check decoding
// trusts it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace espalier::text {

/// The code point at `at`, which is moved past it. `at` is the start of a character of valid UTF-8.
inline char32_t next_code_point(const char*& at) {
  const auto byte = [&](int i) { return static_cast<uint32_t>(static_cast<uint8_t>(at[i])); };
  const uint32_t lead = byte(0);
  if (lead < 0x80) {
    at += 1;
    return lead;
  }
  if (lead < 0xE0) {
    const uint32_t c = (lead & 0x1F) << 6 | (byte(1) & 0x3F);
    at += 2;
    return c;
  }
  if (lead < 0xF0) {
    const uint32_t c = (lead & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
    at += 3;
    return c;
  }
  const uint32_t c =
      (lead & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F);
  at += 4;
  return c;
}

/// The code point that ends before `at`, which is moved to its start.
inline char32_t previous_code_point(const char*& at) {
  do {
    --at;
  } while ((static_cast<uint8_t>(*at) & 0xC0) == 0x80);
  const char* start = at;
  return next_code_point(start);
}

/// Appends the 1 to 4 bytes of `c`, a code point that is no surrogate.
void append_utf8(char32_t c, std::string& out);

/// Bytes of `text` before the first that is not part of valid UTF-8 (no surrogates, no overlong
/// forms); text.size() when all of it is valid.
size_t valid_utf8_prefix(std::string_view text);

/// Appends `text` with U+FFFD for each maximal part of a character that is cut short or wrong, as
/// Unicode recommends (chapter 3.9) and Python and Rust do. Returns the number of replacements.
int64_t append_repaired_utf8(std::string_view text, std::string& out);

/// Number of code points of valid UTF-8.
int64_t count_code_points(std::string_view text);

}  // namespace espalier::text
