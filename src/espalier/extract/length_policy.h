// SPDX-License-Identifier: Apache-2.0
// What happens to samples with more tokens than a row holds. Nothing is cut silently: everything is
// counted.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace espalier::extract {

enum class LengthPolicy : uint8_t { error, skip, truncate_left, truncate_right, window };

/// "error", "skip", "truncate-left", "truncate-right", "window"; throws `user` with the nearest
/// name for another.
LengthPolicy parse_length_policy(std::string_view text);
std::string_view name(LengthPolicy policy);

/// Tokens [begin, end) of a sample, which keep their positions.
struct TokenRange {
  int64_t begin, end;
  friend bool operator==(const TokenRange&, const TokenRange&) = default;
};

struct LengthCounts {
  int64_t whole = 0, empty = 0, skipped = 0, truncated = 0;
  int64_t windowed = 0, windows = 0;  // samples cut into windows, and how many these are
  int64_t tokens = 0, dropped_tokens = 0;
};

/// What each policy would do to samples.
struct LengthSurvey {
  int64_t most = 0;  // tokens of a row
  std::map<LengthPolicy, LengthCounts> counts = {};
  int64_t longest = 0;   // tokens of a sample
  int64_t too_long = 0;  // samples with more than `most`: what LengthPolicy::error stops at
  std::string first_too_long = {};
  int64_t first_length = 0;

  void add(const std::string& sample, int64_t length);
  /// Throws what LengthPolicy::error says to the first sample that is too long, if there is one.
  void refuse() const;
};

/// "31 samples: 20 whole, 11 in 27 windows, 61,034 tokens"
std::string describe(const LengthCounts& counts);

/// The parts of a sample of `length` tokens that are run: none, one, or with `window` as many as
/// cover it, one after the other, each but the last `most` long. Throws `data`
/// under `error`, naming the sample and the policies. Counts what it did.
std::vector<TokenRange> apply_length_policy(LengthPolicy policy, int64_t length, int64_t most,
                                            std::string_view sample, LengthCounts& counts);

}  // namespace espalier::extract
