// SPDX-License-Identifier: Apache-2.0
// Elementary functions as straight-line IR on f32 scalars or vectors; f64 goes to libm.
#pragma once

#include <llvm/IR/IRBuilder.h>

#include "espalier/plan/loop.h"

namespace espalier::cpu::jit {

using Builder = llvm::IRBuilder<>;

/// `type` with the lanes of `like`: a vector where `like` is one, else the scalar.
llvm::Type* with_lanes_of(llvm::Type* like, llvm::Type* scalar);
llvm::Value* emit_fma(Builder& b, llvm::Value* x, llvm::Value* y, llvm::Value* z);
/// numpy's maximum and minimum: a NaN on either side gives NaN. Floats.
llvm::Value* emit_max(Builder& b, llvm::Value* x, llvm::Value* y);
llvm::Value* emit_min(Builder& b, llvm::Value* x, llvm::Value* y);
/// exp, log, tanh, erf, sin, cos of an f32 or f64 scalar or vector.
llvm::Value* emit_function(Builder& b, plan::LoopOp op, llvm::Value* x);
/// x to the power y, f32 or f64.
llvm::Value* emit_pow(Builder& b, llvm::Value* x, llvm::Value* y);
/// mix32 of base/rng.h on i32.
llvm::Value* emit_mix32(Builder& b, llvm::Value* x);
/// mix64 of base/rng.h on i64 scalars.
llvm::Value* emit_mix64(Builder& b, llvm::Value* x);
/// Quotient of two i64 values towards zero; 0 where the divisor is 0.
llvm::Value* emit_divide_i64(Builder& b, llvm::Value* x, llvm::Value* y);

}  // namespace espalier::cpu::jit
