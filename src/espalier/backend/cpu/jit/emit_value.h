// SPDX-License-Identifier: Apache-2.0
// One elementwise instruction of the loop IR as LLVM IR, for scalars and vectors alike.
#pragma once

#include <span>

#include "espalier/backend/cpu/jit/emit_math.h"
#include "espalier/backend/cpu/jit/loop_schedule.h"

namespace espalier::cpu::jit {

/// Scalar type of a register, and of an element in memory.
llvm::Type* register_type(llvm::LLVMContext& context, Register reg);
llvm::Type* memory_type(llvm::LLVMContext& context, DType dtype);

/// Elements as they lie in memory to a register and back; narrowing rounds to nearest even.
llvm::Value* emit_widen(Builder& b, llvm::Value* memory, DType dtype);
llvm::Value* emit_narrow(Builder& b, llvm::Value* value, DType dtype, bool already_rounded);

/// Elementwise instruction on registers. `types` are the dtypes of the arguments.
llvm::Value* emit_elementwise(Builder& b, const plan::LoopInst& inst, std::span<const DType> types,
                              std::span<llvm::Value* const> args);
/// A constant of the instruction's register, rounded to its dtype.
llvm::Constant* emit_constant(Builder& b, const plan::LoopInst& inst);
/// `x` compared by eq .. ge; integers are signed.
llvm::Value* emit_compare(Builder& b, plan::LoopOp op, llvm::Value* x, llvm::Value* y);

}  // namespace espalier::cpu::jit
