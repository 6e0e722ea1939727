// SPDX-License-Identifier: Apache-2.0
// State shared by the parts of the emitter: the function around the rows (emit_loop.cpp) and the
// sweeps over the inner dimension (emit_sweep.cpp).
//
// Shape of the emitted function:
//   values that are uniform
//   for each row in [begin, end):                     (flat loops: once)
//     for each sweep:
//       row values
//       for blocks of `unroll` vectors: the steps     (the last block, if partial, runs on copies
//                                                      of the operands' ends in a stage buffer)
//     row sinks
//   uniform sinks
#pragma once

#include <llvm/IR/Module.h>

#include <map>
#include <string>
#include <vector>

#include "espalier/backend/cpu/jit/emit_value.h"

namespace espalier::cpu::jit {

class LoopEmitter {
 public:
  LoopEmitter(llvm::Module& module, const plan::Loop& loop, const LoopSchedule& schedule,
              const std::string& name, int width);
  void emit();

  // What the sweeps read. Scalars dominate every sweep of their row.
  Builder b;
  const plan::Loop& loop;
  const LoopSchedule& schedule;
  const int width;
  std::vector<llvm::Value*> scalars;        // uniform and row values, by instruction
  std::vector<llvm::Value*> rows;           // per operand: pointer (index: i64) at this row
  std::vector<llvm::Value*> inner_strides;  // per operand with InnerStride::strided: elements, i64
  llvm::Value* extent = nullptr;            // i64 inner extent of this call

  struct Key {
    llvm::Value* k0;
    llvm::Value* k1;
  };
  std::map<int, Key> keys;  // random keys, by uniform instruction

  llvm::Type* element_type(int operand) {
    return memory_type(b.getContext(), loop.operands[operand].dtype);
  }
  int64_t element_size(int operand) const { return size_of(loop.operands[operand].dtype); }
  llvm::Value* constant64(int64_t value) { return b.getInt64(static_cast<uint64_t>(value)); }
  llvm::BasicBlock* block(const char* name) {
    return llvm::BasicBlock::Create(b.getContext(), name, function_);
  }
  /// A call of a function of runtime.cpp that returns nothing.
  void call_runtime(const char* name, std::initializer_list<llvm::Value*> args);
  /// Memory in the function's frame, 64-byte aligned.
  llvm::Value* frame(int64_t bytes);
  /// Start of a scratch row.
  llvm::Value* scratch_row(int slot);
  /// Elementwise instruction on the scalars of its arguments.
  llvm::Value* scalar_value(int inst);
  /// Adds a scalar to the element an accumulator without inner dimension has in this row.
  void accumulate_scalar(int inst, llvm::Value* value);

 private:
  llvm::Value* call_field(size_t offset, llvm::Type* type);
  void load_call();
  void emit_flat();
  void emit_rows();
  void emit_row();
  void emit_key(int inst);
  void emit_scalar_sink(int inst);

  llvm::Function* function_;
  std::vector<llvm::Value*> bases_;  // per operand: pointer (index: i64) of the call
  llvm::Value* scratch_ = nullptr;
  llvm::Value* padded_extent_ = nullptr;
  llvm::Value* begin_ = nullptr;
  llvm::Value* end_ = nullptr;
};

/// One sweep of the current row, into scalars for its reductions.
void emit_sweep(LoopEmitter& emitter, const Sweep& sweep);

}  // namespace espalier::cpu::jit
