// SPDX-License-Identifier: Apache-2.0
#include "espalier/backend/cpu/jit/emit_loop.h"

#include <cstddef>

#include "espalier/backend/cpu/jit/loop_emitter.h"

namespace espalier::cpu::jit {
namespace {

using llvm::Type;
using llvm::Value;
using plan::InnerStride;
using plan::LoopCall;
using plan::LoopInst;
using plan::LoopOp;
using plan::LoopSpace;
using plan::OperandRole;

}  // namespace

LoopEmitter::LoopEmitter(llvm::Module& module, const plan::Loop& loop, const LoopSchedule& schedule,
                         const std::string& name, int width)
    : b(module.getContext()), loop(loop), schedule(schedule), width(width) {
  auto* type = llvm::FunctionType::get(b.getVoidTy(), {b.getPtrTy()}, false);
  function_ = llvm::Function::Create(type, llvm::Function::ExternalLinkage, name, module);
  function_->setDoesNotThrow();
  function_->addFnAttr("prefer-vector-width", "512");
  function_->addFnAttr("min-legal-vector-width", "512");
  scalars.resize(loop.insts.size());
  rows.resize(loop.operands.size());
  inner_strides.resize(loop.operands.size());
  bases_.resize(loop.operands.size());
}

void LoopEmitter::call_runtime(const char* name, std::initializer_list<Value*> args) {
  std::vector<Type*> types;
  for (Value* arg : args) types.push_back(arg->getType());
  auto callee = function_->getParent()->getOrInsertFunction(
      name, llvm::FunctionType::get(b.getVoidTy(), types, false));
  llvm::cast<llvm::Function>(callee.getCallee())->setDoesNotThrow();
  b.CreateCall(callee, std::vector<Value*>(args));
}

Value* LoopEmitter::frame(int64_t bytes) {
  llvm::BasicBlock& entry = function_->getEntryBlock();
  Builder at_entry(&entry, entry.begin());
  llvm::AllocaInst* memory =
      at_entry.CreateAlloca(llvm::ArrayType::get(b.getInt8Ty(), static_cast<uint64_t>(bytes)));
  memory->setAlignment(llvm::Align(64));
  return memory;
}

Value* LoopEmitter::scratch_row(int slot) {
  int64_t before = 0;
  for (int s = 0; s < slot; ++s) before += scratch_size(schedule.slots[s]);
  return b.CreateGEP(b.getInt8Ty(), scratch_, b.CreateMul(padded_extent_, constant64(before)));
}

Value* LoopEmitter::call_field(size_t offset, Type* type) {
  Value* at = b.CreateConstGEP1_64(b.getInt8Ty(), function_->getArg(0), offset);
  return b.CreateLoad(type, at);
}

void LoopEmitter::load_call() {
  Type* i64 = b.getInt64Ty();
  Value* operands = call_field(offsetof(LoopCall, operands), b.getPtrTy());
  Value* strides = call_field(offsetof(LoopCall, strides), b.getPtrTy());
  begin_ = call_field(offsetof(LoopCall, begin), i64);
  end_ = call_field(offsetof(LoopCall, end), i64);
  extent = loop.outer_rank == 0 ? b.CreateSub(end_, begin_)
                                : call_field(offsetof(LoopCall, inner_extent), i64);
  if (!schedule.slots.empty()) {
    scratch_ = call_field(offsetof(LoopCall, scratch), b.getPtrTy());
    padded_extent_ =
        b.CreateAnd(b.CreateAdd(extent, constant64(kMaxBlock - 1)), constant64(-kMaxBlock));
  }
  for (size_t k = 0; k < loop.operands.size(); ++k) {
    const bool index = loop.operands[k].role == OperandRole::index;
    bases_[k] =
        b.CreateLoad(index ? i64 : b.getPtrTy(), b.CreateConstGEP1_64(b.getPtrTy(), operands, k));
    if (loop.operands[k].inner == InnerStride::strided) {
      const size_t at = k * (loop.outer_rank + 1) + loop.outer_rank;
      inner_strides[k] = b.CreateLoad(i64, b.CreateConstGEP1_64(i64, strides, at));
    }
  }
  rows = bases_;  // right for uniform values; rows move them on
}

Value* LoopEmitter::scalar_value(int i) {
  const LoopInst& inst = loop.insts[i];
  if (inst.op == LoopOp::constant) return emit_constant(b, inst);
  if (inst.op == LoopOp::index) return rows[inst.operand];
  if (inst.op == LoopOp::load) {
    Value* memory = b.CreateAlignedLoad(element_type(inst.operand), rows[inst.operand],
                                        llvm::Align(element_size(inst.operand)));
    return emit_widen(b, memory, loop.operands[inst.operand].dtype);
  }
  if (inst.op == LoopOp::uniform) {
    Value* index = scalars[inst.args[2]];
    Value* high = b.CreateTrunc(b.CreateLShr(index, 32), b.getInt32Ty());
    Value* x = b.CreateXor(b.CreateTrunc(index, b.getInt32Ty()), keys.at(i).k0);
    x = b.CreateAdd(emit_mix32(b, x), keys.at(i).k1);
    x = emit_mix32(b, b.CreateAdd(x, b.CreateMul(high, b.getInt32(0x9E3779B9))));
    x = b.CreateSIToFP(b.CreateLShr(x, 8), b.getFloatTy());
    return b.CreateFMul(x, llvm::ConstantFP::get(b.getFloatTy(), 0x1p-24));
  }
  std::vector<Value*> args;
  std::vector<DType> types;
  for (int a : inst.args) {
    if (a < 0) break;
    args.push_back(scalars[a]);
    types.push_back(loop.insts[a].dtype);
  }
  return emit_elementwise(b, inst, types, args);
}

void LoopEmitter::emit_scalar_sink(int i) {
  const LoopInst& inst = loop.insts[i];
  const int a = inst.args[0];
  if (inst.op == LoopOp::accumulate) return accumulate_scalar(i, scalars[a]);
  const DType dtype = loop.operands[inst.operand].dtype;
  Value* memory = emit_narrow(b, scalars[a], dtype, loop.insts[a].dtype == dtype);
  b.CreateAlignedStore(memory, rows[inst.operand], llvm::Align(element_size(inst.operand)));
}

void LoopEmitter::accumulate_scalar(int i, Value* value) {
  const int operand = loop.insts[i].operand;
  Type* type = element_type(operand);
  if (value->getType() != type) {
    value = type->isDoubleTy() ? b.CreateFPExt(value, type) : b.CreateFPTrunc(value, type);
  }
  const llvm::Align align(element_size(operand));
  Value* sum = b.CreateFAdd(b.CreateAlignedLoad(type, rows[operand], align), value);
  b.CreateAlignedStore(sum, rows[operand], align);
}

/// rng_key of base/rng.h.
void LoopEmitter::emit_key(int i) {
  const LoopInst& inst = loop.insts[i];
  Value* ids = call_field(offsetof(LoopCall, ids), b.getPtrTy());
  Value* id = b.CreateLoad(b.getInt64Ty(), b.CreateConstGEP1_64(b.getInt64Ty(), ids, inst.id));
  Value* z = emit_mix64(b, scalars[inst.args[0]]);
  z = emit_mix64(b, b.CreateXor(z, scalars[inst.args[1]]));
  z = emit_mix64(b, b.CreateXor(z, id));
  Type* word = b.getInt32Ty();
  keys[i] = {b.CreateTrunc(z, word), b.CreateTrunc(b.CreateLShr(z, 32), word)};
}

void LoopEmitter::emit_row() {
  for (const Sweep& sweep : schedule.sweeps) {
    for (int i : sweep.row_values) scalars[i] = scalar_value(i);
    if (!sweep.steps.empty()) emit_sweep(*this, sweep);
  }
  for (int i : schedule.row_sinks) emit_scalar_sink(i);
}

/// The range is over the inner dimension: operands start at `begin`.
void LoopEmitter::emit_flat() {
  for (size_t k = 0; k < loop.operands.size(); ++k) {
    const plan::LoopOperand& operand = loop.operands[k];
    if (operand.inner == InnerStride::none) continue;
    const bool strided = operand.inner == InnerStride::strided;
    Value* distance = strided ? b.CreateMul(begin_, inner_strides[k]) : begin_;
    rows[k] = operand.role == OperandRole::index
                  ? b.CreateAdd(bases_[k], distance)
                  : b.CreateGEP(element_type(k), bases_[k], distance);
  }
  emit_row();
}

/// Outer indices count up like an odometer: the offsets of all operands are one vector in the
/// frame, to which the step of the index that grew is added (see start_rows in runtime.cpp).
void LoopEmitter::emit_rows() {
  Type* i64 = b.getInt64Ty();
  const int64_t rank = loop.outer_rank;
  const int64_t count = static_cast<int64_t>(loop.operands.size());
  const int64_t lanes = std::max<int64_t>(4, (count + 3) / 4 * 4);
  std::string sizes;
  for (const plan::LoopOperand& operand : loop.operands) {
    sizes += static_cast<char>(operand.role == OperandRole::index ? 0 : size_of(operand.dtype));
  }
  Value* state = frame((lanes * (rank + 1) + rank) * 8);
  llvm::BasicBlock *start = block("start"), *row = block("row"), *next = block("next"),
                   *carry = block("carry"), *reset = block("reset"), *move = block("move"),
                   *done = block("done");
  b.CreateCondBr(b.CreateICmpSLT(begin_, end_), start, done);

  b.SetInsertPoint(start);
  call_runtime("espalier_jit_start_rows",
               {function_->getArg(0), constant64(rank), constant64(count), constant64(lanes),
                b.CreateGlobalString(sizes, "sizes"), state});
  Value* extents = call_field(offsetof(LoopCall, outer_extents), b.getPtrTy());
  Value* indices = b.CreateConstGEP1_64(i64, state, lanes * (rank + 1));
  b.CreateBr(row);

  b.SetInsertPoint(row);
  llvm::PHINode* at = b.CreatePHI(i64, 2);
  at->addIncoming(begin_, start);
  for (int64_t k = 0; k < count; ++k) {
    if (!loop.operands[k].varies_outer) continue;
    Value* offset = b.CreateLoad(i64, b.CreateConstGEP1_64(i64, state, k));
    rows[k] = loop.operands[k].role == OperandRole::index
                  ? b.CreateAdd(bases_[k], offset)
                  : b.CreateGEP(b.getInt8Ty(), bases_[k], offset);
  }
  emit_row();
  Value* following = b.CreateAdd(at, constant64(1));
  at->addIncoming(following, move);
  b.CreateCondBr(b.CreateICmpSLT(following, end_), next, done);

  b.SetInsertPoint(next);
  b.CreateBr(carry);
  b.SetInsertPoint(carry);
  llvm::PHINode* d = b.CreatePHI(i64, 2);
  d->addIncoming(constant64(rank - 1), next);
  Value* slot = b.CreateGEP(i64, indices, d);
  Value* grown = b.CreateAdd(b.CreateLoad(i64, slot), constant64(1));
  Value* limit = b.CreateLoad(i64, b.CreateGEP(i64, extents, d));
  b.CreateCondBr(b.CreateICmpSLT(grown, limit), move, reset);
  b.SetInsertPoint(reset);
  b.CreateStore(constant64(0), slot);
  d->addIncoming(b.CreateSub(d, constant64(1)), reset);
  b.CreateBr(carry);

  b.SetInsertPoint(move);
  b.CreateStore(grown, slot);
  Value* steps =
      b.CreateGEP(i64, state, b.CreateMul(b.CreateAdd(d, constant64(1)), constant64(lanes)));
  auto* vector = llvm::FixedVectorType::get(i64, 4);
  const llvm::Align align(32);
  for (int64_t k = 0; k < lanes; k += 4) {
    Value* offset = b.CreateConstGEP1_64(i64, state, k);
    Value* moved =
        b.CreateAdd(b.CreateAlignedLoad(vector, offset, align),
                    b.CreateAlignedLoad(vector, b.CreateConstGEP1_64(i64, steps, k), align));
    b.CreateAlignedStore(moved, offset, align);
  }
  b.CreateBr(row);
  b.SetInsertPoint(done);
}

void LoopEmitter::emit() {
  b.SetInsertPoint(block("entry"));
  load_call();
  for (int i : schedule.uniform_values) {
    if (loop.insts[i].op == LoopOp::uniform) emit_key(i);
    scalars[i] = scalar_value(i);
  }
  for (int i = 0; i < static_cast<int>(loop.insts.size()); ++i) {
    const bool drawn = loop.insts[i].op == LoopOp::uniform && schedule.values[i].live;
    if (drawn && !keys.contains(i)) emit_key(i);
  }
  if (loop.outer_rank == 0) {
    emit_flat();
  } else {
    emit_rows();
  }
  rows = bases_;
  for (int i : schedule.uniform_sinks) emit_scalar_sink(i);
  b.CreateRetVoid();
}

void emit_loop(llvm::Module& module, const plan::Loop& loop, const LoopSchedule& schedule,
               const std::string& name, int width) {
  LoopEmitter(module, loop, schedule, name, width).emit();
}

}  // namespace espalier::cpu::jit
