// SPDX-License-Identifier: Apache-2.0
#include "espalier/nn/context.h"

#include <algorithm>

#include "espalier/base/error.h"
#include "espalier/base/text.h"

namespace espalier::nn {

void Hooks::check_all_matched() const {
  for (const Glob& glob : globs_) {
    const bool hit = std::any_of(names_.begin(), names_.end(),
                                 [&](const std::string& name) { return glob.matches(name); });
    ESPALIER_CHECK(hit, ErrorKind::user, "hooks", "\"{}\" matched none of {} hooks{}",
                   glob.pattern(), names_.size(), nearest_hint(glob.pattern(), names_));
  }
}

}  // namespace espalier::nn
