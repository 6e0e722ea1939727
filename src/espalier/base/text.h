// SPDX-License-Identifier: Apache-2.0
// Text for messages: nearest names, sizes and times for people, JSON strings.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace espalier {

/// Fewest insertions, deletions, substitutions and swaps of neighbours that turn `a` into `b`.
int64_t edit_distance(std::string_view a, std::string_view b);

/// The candidate nearest to `name`; the first of equals; empty when there are none.
std::string_view nearest(std::string_view name, std::span<const std::string> candidates);

/// "; nearest: NAME", to end a message with, or nothing when there is no candidate.
std::string nearest_hint(std::string_view name, std::span<const std::string> candidates);

/// "512 B", "1.50 KiB", "12.3 GiB": three significant digits, powers of 1024.
std::string human_bytes(int64_t bytes);

/// "350 us", "12.0 ms", "4.20 s", "3 min 07 s", "2 h 05 min", "4 d 03 h".
std::string human_duration(double seconds);

/// `text` with every byte that is not part of valid UTF-8 replaced by U+FFFD.
std::string valid_utf8(std::string_view text);

/// `text` as a JSON string with its quotes, made valid UTF-8.
std::string json_quote(std::string_view text);

}  // namespace espalier
