// SPDX-License-Identifier: Apache-2.0
// Flags that say over which mesh a model is cut, and how.
#pragma once

#include <string>
#include <vector>

#include "espalier/cli/flags.h"
#include "espalier/shard/transform.h"

namespace espalier::cli {

/// --mesh, --rule, --plan, --preset.
struct PlanFlags {
  std::string mesh, preset, file;
  std::vector<std::string> rules;

  void add_to(Command& app);
  bool empty() const { return mesh.empty() && preset.empty() && file.empty() && rules.empty(); }
  /// The preset, then the plans of the file, then the rules as one plan.
  std::vector<shard::PlanText> plans() const;
};

}  // namespace espalier::cli
