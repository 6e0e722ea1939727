// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "espalier/backend/executable.h"

namespace espalier::cpu {

/// Compiles a traced step for this processor: passes, program, kernels, memory.
std::unique_ptr<Executable> make_cpu_executable(const ir::Graph& graph,
                                                const CompileOptions& options,
                                                const StateViews& shared = {});

}  // namespace espalier::cpu
