// SPDX-License-Identifier: Apache-2.0
// One sweep over the inner dimension: the frame around the body is in emit_sweep.cpp, the body in
// emit_body.cpp.
#pragma once

#include <array>
#include <map>
#include <vector>

#include "espalier/backend/cpu/jit/loop_emitter.h"

namespace espalier::cpu::jit {

using Vectors = std::array<llvm::Value*, 4>;  // one per unrolled copy

/// Emits one sweep. The same body serves whole blocks, on the operands themselves, and the partial
/// block at the end of the row, on copies in the frame whose surplus lanes are never copied back
/// and never added to a reduction.
class SweepEmitter {
 public:
  SweepEmitter(LoopEmitter& emitter, const Sweep& sweep)
      : e_(emitter),
        b_(emitter.b),
        sweep_(sweep),
        unroll_(sweep.unroll),
        block_(emitter.width * sweep.unroll) {}

  void emit();

 private:
  struct Stream {  // an operand read or written along the inner dimension
    int operand = -1;
    bool in = false, out = false;
    llvm::Value* stage = nullptr;
    llvm::PHINode* pointer = nullptr;
    llvm::PHINode* stride = nullptr;  // strided operands: elements
  };
  struct Affine {  // an i64 value start + i * stride
    llvm::Value* start = nullptr;
    llvm::Value* stride = nullptr;  // null: 1
    llvm::Value* high_varies = nullptr;
  };
  struct Reduction {
    int inst = -1;
    llvm::Value* identity = nullptr;
    std::array<llvm::PHINode*, 4> sums{};
    std::array<llvm::PHINode*, 4> in_body{};
    std::array<llvm::Value*, 4> next{};
  };

  // Before the body.
  void find_streams();
  Stream& stream(int operand);
  void prepare_scalars();
  void prepare_affine(int inst);
  void prepare_reduction(int inst);
  void prepare_random(int inst);
  // The body.
  void emit_step(const Step& step);
  void eval(int inst);
  void eval_random(int inst);
  bool eval_index_compare(int inst);
  void reduce(Reduction& reduction);
  void sink(int inst);
  llvm::Value* element(const Stream& s, int u, int lane);
  Vectors load(int operand);
  void store(int operand, const Vectors& memory);
  llvm::Value* scratch_at(int inst, int u);
  llvm::Value* vector_of(int inst, int u);
  llvm::Value* affine_start(int inst);
  // Around it.
  void stage_in(llvm::Value* main, llvm::Value* rest);
  void stage_out(llvm::Value* main, llvm::Value* rest);
  void finish(Reduction& reduction);
  llvm::Value* combine(plan::LoopOp op, llvm::Value* x, llvm::Value* y);

  llvm::Value* splat(llvm::Value* scalar) { return b_.CreateVectorSplat(width(), scalar); }
  unsigned width() const { return static_cast<unsigned>(e_.width); }
  llvm::Type* vector(llvm::Type* scalar) { return llvm::FixedVectorType::get(scalar, width()); }
  llvm::Type* memory_vector(int operand) { return vector(e_.element_type(operand)); }
  llvm::Constant* lanes(llvm::Type* scalar, int first) {
    std::vector<llvm::Constant*> values;
    values.reserve(static_cast<size_t>(e_.width));
    for (int lane = first; lane < first + e_.width; ++lane) {
      values.push_back(llvm::ConstantInt::get(scalar, static_cast<uint64_t>(lane)));
    }
    return llvm::ConstantVector::get(values);
  }
  const plan::LoopInst& inst(int i) const { return e_.loop.insts[i]; }
  bool full(int i) const { return e_.schedule.values[i].space == plan::LoopSpace::full; }
  Register accumulator(int i) const {
    return register_of(inst(i).op == plan::LoopOp::accumulate
                           ? e_.loop.operands[inst(i).operand].dtype
                           : inst(i).dtype);
  }

  LoopEmitter& e_;
  Builder& b_;
  const Sweep& sweep_;
  int unroll_;
  int64_t block_;
  std::vector<Stream> streams_;
  std::vector<Reduction> reductions_;
  std::map<int, Vectors> values_;       // full values in the body
  std::map<int, llvm::Value*> splats_;  // uniform and row values the body reads
  std::map<int, Affine> affine_;
  std::map<int, llvm::Value*>
      random_high_;  // per uniform: k1 + high word * C, while that is constant
  std::map<int, llvm::Value*> scratch_rows_;  // per kept instruction
  std::array<llvm::PHINode*, 4> masks_{};     // i32 lanes: all ones where the lane is in the row
  llvm::Value* i_ = nullptr;                  // first element of the block
};

}  // namespace espalier::cpu::jit
