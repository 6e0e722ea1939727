// SPDX-License-Identifier: Apache-2.0
// State that a step replaces: written in place where that is safe, and early.
#pragma once

#include "espalier/plan/program.h"

namespace espalier::plan {

/// Lets the step that makes `made` write into `state`, when nothing needs the old contents later
/// and the loop reads them no later than it writes. False, and nothing changes, otherwise.
bool update_in_place(Program& program, const Location& made, const Location& state);

/// Moves steps that write state in place as early as their operands and other readers allow, so
/// that gradients die soon; and scalars, because updates wait for them.
void hoist_updates(Program& program);

}  // namespace espalier::plan
