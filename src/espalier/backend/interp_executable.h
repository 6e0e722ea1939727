// SPDX-License-Identifier: Apache-2.0
// The interpreter behind the interface of an executable: every op in double, for checks.
#pragma once

#include <memory>

#include "espalier/backend/executable.h"

namespace espalier {

/// State of a float type is held as f64, so that a step loses nothing; `state` and `output` show
/// it so. With `round_f32` every f32 result is rounded to f32, as a machine that fuses nothing
/// would, and so is the state. Batch inputs keep their dtypes. Of the passes only `precision` runs,
/// where the options ask for another type than f32.
std::unique_ptr<Executable> make_interp_executable(const ir::Graph& graph,
                                                   const CompileOptions& options, bool round_f32,
                                                   const StateViews& shared = {});

}  // namespace espalier
