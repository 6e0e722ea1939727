// SPDX-License-Identifier: Apache-2.0
// Where the time of a step goes, for people.
#pragma once

#include <string>
#include <vector>

#include "espalier/backend/executable.h"
#include "espalier/train/report.h"

namespace espalier::train {

/// Kernels that are equal but for the numbers in their scope, such as those of all layers.
struct ProfileGroup {
  std::string kind;
  std::string label;    // with * for the numbers: "layers.*.mlp:matmul ..."
  int64_t kernels = 0;  // of one step
  double seconds = 0.0, flops = 0.0, bytes = 0.0;  // of one step, all of them together
};

/// What takes most comes first. Rows that never ran are left out.
std::vector<ProfileGroup> group_profile(const std::vector<ProfileRow>& rows);

/// The first `lines` groups, one line each: time, share of all, number, rates, label.
std::string profile_text(const std::vector<ProfileRow>& rows, size_t lines);

/// The same as a table of the report; `peak` in FLOP/s, or 0.
ReportTable profile_table(const std::vector<ProfileRow>& rows, double peak);

}  // namespace espalier::train
