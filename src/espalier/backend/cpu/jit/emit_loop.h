// SPDX-License-Identifier: Apache-2.0
// A scheduled loop as one LLVM function `void name(const LoopCall*)`.
#pragma once

#include <llvm/IR/Module.h>

#include <string>

#include "espalier/backend/cpu/jit/loop_schedule.h"

namespace espalier::cpu::jit {

/// Adds the function to `module`. `width`: f32 lanes of a vector, a power of two up to 16.
void emit_loop(llvm::Module& module, const plan::Loop& loop, const LoopSchedule& schedule,
               const std::string& name, int width);

}  // namespace espalier::cpu::jit
