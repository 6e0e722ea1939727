// SPDX-License-Identifier: Apache-2.0
// Gradient accumulation as two programs over one state: one runs for each part of a batch and adds
// up, the other updates from the totals. Internal to train/step.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "espalier/backend/executable.h"
#include "espalier/train/step.h"

namespace espalier::train {

/// Names of the inputs of role "parameter" and "state".
std::vector<std::string> kept_inputs(const ir::Graph& graph);

/// Weights that another program updates are not laid out once and for all.
void leave_out_prepack(CompileOptions& options);

/// Both programs as one: a batch input is given as all parts in a row, outputs are those of the
/// update.
std::unique_ptr<Executable> compile_accumulating(const ir::Graph& part,
                                                 const Step::Accumulation& accumulation,
                                                 const CompileOptions& options,
                                                 const StateViews& shared);

}  // namespace espalier::train
