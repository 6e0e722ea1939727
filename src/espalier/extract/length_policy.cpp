// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/length_policy.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "espalier/base/error.h"
#include "espalier/extract/choice.h"

namespace espalier::extract {
namespace {

constexpr std::array<std::string_view, 5> kNames{"error", "skip", "truncate-left", "truncate-right",
                                                 "window"};

}  // namespace

LengthPolicy parse_length_policy(std::string_view text) {
  return parse_choice<LengthPolicy>("length policy", text, kNames);
}

std::string_view name(LengthPolicy policy) { return kNames[static_cast<size_t>(policy)]; }

std::string describe(const LengthCounts& c) {
  const int64_t samples = c.whole + c.empty + c.skipped + c.truncated + c.windowed;
  std::string text = fmt::format("{} samples: {} whole", samples, c.whole);
  const auto add = [&](int64_t count, std::string_view what) {
    if (count > 0) text += fmt::format(", {} {}", count, what);
  };
  add(c.truncated, "truncated");
  add(c.skipped, "skipped");
  add(c.empty, "empty");
  if (c.windowed > 0) text += fmt::format(", {} in {} windows", c.windowed, c.windows);
  text += fmt::format(", {} tokens", c.tokens);
  add(c.dropped_tokens, "tokens dropped");
  return text;
}

void LengthSurvey::add(const std::string& sample, int64_t length) {
  longest = std::max(longest, length);
  if (length > most && too_long++ == 0) {
    first_too_long = sample;
    first_length = length;
  }
  for (size_t i = 0; i < kNames.size(); ++i) {
    const auto policy = static_cast<LengthPolicy>(i);
    if (length > most && policy == LengthPolicy::error) continue;
    apply_length_policy(policy, length, most, sample, counts[policy]);
  }
}

void LengthSurvey::refuse() const {
  LengthCounts ignored;
  if (too_long > 0) {
    apply_length_policy(LengthPolicy::error, first_length, most, first_too_long, ignored);
  }
}

std::vector<TokenRange> apply_length_policy(LengthPolicy policy, int64_t length, int64_t most,
                                            std::string_view sample, LengthCounts& counts) {
  ESPALIER_CHECK(most > 0, ErrorKind::user, "length policy",
                 "the maximum sequence length {} must be positive", most);
  if (length == 0) {
    ++counts.empty;
    return {};
  }
  if (length <= most) {
    ++counts.whole;
    counts.tokens += length;
    return {{0, length}};
  }
  switch (policy) {
    case LengthPolicy::error:
      fail(ErrorKind::data, "length policy",
           "sample {} has {} tokens, the maximum sequence length is {}; raise it, or choose "
           "skip, truncate-left, truncate-right or window",
           sample, length, most);
    case LengthPolicy::skip:
      ++counts.skipped;
      counts.dropped_tokens += length;
      return {};
    case LengthPolicy::truncate_left:
    case LengthPolicy::truncate_right: {
      ++counts.truncated;
      counts.tokens += most;
      counts.dropped_tokens += length - most;
      const int64_t begin = policy == LengthPolicy::truncate_left ? length - most : 0;
      return {{begin, begin + most}};
    }
    case LengthPolicy::window:
      break;
  }
  std::vector<TokenRange> windows;
  for (int64_t begin = 0; begin < length; begin += most) {
    windows.push_back({begin, std::min(length, begin + most)});
  }
  ++counts.windowed;
  counts.windows += static_cast<int64_t>(windows.size());
  counts.tokens += length;
  return windows;
}

}  // namespace espalier::extract
