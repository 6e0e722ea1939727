// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "espalier/backend/executable.h"
#include "espalier/passes/pass.h"

namespace espalier::cpu {

/// What the passes need to know of this processor.
passes::PassOptions pass_options(const CompileOptions& options);

/// Compiles a traced step for this processor: passes, program, kernels, memory.
std::unique_ptr<Executable> make_cpu_executable(const ir::Graph& graph,
                                                const CompileOptions& options,
                                                const StateViews& shared = {},
                                                std::shared_ptr<PackedWeights> packed = nullptr);

}  // namespace espalier::cpu
