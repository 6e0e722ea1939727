// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/base/error.h"
#include "espalier/base/text.h"

namespace espalier::extract {

/// The value of an enumeration whose names, in order, are `names`; throws `user` with the nearest
/// name for another text.
template <typename Enum>
Enum parse_choice(std::string_view stage, std::string_view text,
                  std::span<const std::string_view> names) {
  const auto found = std::find(names.begin(), names.end(), text);
  const std::vector<std::string> known(names.begin(), names.end());
  ESPALIER_CHECK(found != names.end(), ErrorKind::user, stage, "\"{}\" is none of {}{}", text,
                 fmt::join(known, ", "), nearest_hint(text, known));
  return static_cast<Enum>(found - names.begin());
}

}  // namespace espalier::extract
