// SPDX-License-Identifier: Apache-2.0
// State that a step replaces: written in place where that is safe, and early.
#pragma once

#include <vector>

#include "espalier/plan/program.h"

namespace espalier::plan {

/// Which results replace state in place. Steps may be added to the program between calls, but not
/// moved.
class StateUpdates {
 public:
  explicit StateUpdates(Program& program) : program_(program) {}

  /// Lets the step that makes `made` write into `state`, when nothing needs the old contents later
  /// and the loop reads them no later than it writes. False, and nothing changes, otherwise.
  bool in_place(const Location& made, const Location& state);

 private:
  /// The steps that touch a buffer: one look at the program for all results, not one each.
  struct Uses {
    int32_t first_write = -1;
    int32_t last_write = -1;
    int32_t last_read = -1;
    bool taken = false;  // a result lies in it
  };
  void see_new_steps();

  Program& program_;
  std::vector<Uses> uses_;  // by buffer
  size_t seen_ = 0;         // steps that are in `uses_`
};

/// Moves steps that write state in place as early as their operands and other readers allow, so
/// that gradients die soon; and scalars, because updates wait for them.
void hoist_updates(Program& program);

}  // namespace espalier::plan
