// SPDX-License-Identifier: Apache-2.0
#include <llvm/IR/Intrinsics.h>
#include <llvm/IR/MDBuilder.h>

#include "espalier/backend/cpu/jit/sweep_emitter.h"

namespace espalier::cpu::jit {

using llvm::Constant;
using llvm::ConstantFP;
using llvm::ConstantInt;
using llvm::PHINode;
using llvm::Type;
using llvm::Value;
using plan::LoopInst;
using plan::LoopOp;

Value* SweepEmitter::affine_start(int i) {
  const Affine& value = affine_.at(i);
  Value* distance = value.stride ? b_.CreateMul(i_, value.stride) : i_;
  return b_.CreateAdd(value.start, distance);
}

/// Vector u of an argument.
Value* SweepEmitter::vector_of(int i, int u) {
  if (!full(i)) {
    Value* value = splats_.at(i);
    const bool bit = inst(i).dtype == DType::boolean && !value->getType()->isIntOrIntVectorTy(1);
    return bit ? b_.CreateICmpNE(value, Constant::getNullValue(value->getType())) : value;
  }
  if (affine_.contains(i) && !values_.contains(i)) {
    Value* start = affine_start(i);
    Vectors vectors{};
    for (int v = 0; v < unroll_; ++v) {
      Value* distance = lanes(b_.getInt64Ty(), v * e_.width);
      if (Value* stride = affine_.at(i).stride) {
        distance = b_.CreateMul(distance, splat(stride));
      }
      vectors[v] = b_.CreateAdd(splat(start), distance);
    }
    values_[i] = vectors;
  }
  return values_.at(i)[u];
}

/// Address of element `lane` of vector u.
Value* SweepEmitter::element(const Stream& s, int u, int lane) {
  Type* type = e_.element_type(s.operand);
  Value* index = b_.CreateAdd(i_, e_.constant64(u * e_.width + lane));
  if (s.stride) index = b_.CreateMul(index, s.stride);
  return b_.CreateGEP(type, s.pointer, index);
}

Vectors SweepEmitter::load(int operand) {
  const Stream& s = stream(operand);
  const llvm::Align align(e_.element_size(operand));
  Vectors result{};
  for (int u = 0; u < unroll_; ++u) {
    if (!s.stride) {
      result[u] = b_.CreateAlignedLoad(memory_vector(operand), element(s, u, 0), align);
      continue;
    }
    Value* gathered = llvm::PoisonValue::get(memory_vector(operand));
    for (int lane = 0; lane < e_.width; ++lane) {
      Value* one = b_.CreateAlignedLoad(e_.element_type(operand), element(s, u, lane), align);
      gathered = b_.CreateInsertElement(gathered, one, b_.getInt32(lane));
    }
    result[u] = gathered;
  }
  return result;
}

void SweepEmitter::store(int operand, const Vectors& memory) {
  const Stream& s = stream(operand);
  const llvm::Align align(e_.element_size(operand));
  for (int u = 0; u < unroll_; ++u) {
    if (!s.stride) {
      b_.CreateAlignedStore(memory[u], element(s, u, 0), align);
      continue;
    }
    for (int lane = 0; lane < e_.width; ++lane) {
      b_.CreateAlignedStore(b_.CreateExtractElement(memory[u], lane), element(s, u, lane), align);
    }
  }
}

Value* SweepEmitter::scratch_at(int i, int u) {
  const Register reg = register_of(inst(i).dtype);
  Type* type = reg == Register::i1 ? b_.getInt8Ty() : register_type(b_.getContext(), reg);
  return b_.CreateGEP(type, scratch_rows_.at(i), b_.CreateAdd(i_, e_.constant64(u * e_.width)));
}

void SweepEmitter::emit_step(const Step& step) {
  const int i = step.inst;
  const bool bit = inst(i).dtype == DType::boolean;
  const llvm::Align align(scratch_size(register_of(inst(i).dtype)));
  switch (step.kind) {
    case Step::Kind::eval:
      return eval(i);
    case Step::Kind::reload: {
      Type* type =
          vector(bit ? b_.getInt8Ty() : register_type(b_.getContext(), register_of(inst(i).dtype)));
      Vectors vectors{};
      for (int u = 0; u < unroll_; ++u) {
        Value* value = b_.CreateAlignedLoad(type, scratch_at(i, u), align);
        vectors[u] = bit ? b_.CreateICmpNE(value, Constant::getNullValue(type)) : value;
      }
      values_[i] = vectors;
      return;
    }
    case Step::Kind::keep:
      for (int u = 0; u < unroll_; ++u) {
        Value* value = vector_of(i, u);
        if (bit) value = b_.CreateZExt(value, vector(b_.getInt8Ty()));
        b_.CreateAlignedStore(value, scratch_at(i, u), align);
      }
      return;
    case Step::Kind::reduce:
      for (Reduction& reduction : reductions_) {
        if (reduction.inst == i) reduce(reduction);
      }
      return;
    case Step::Kind::sink:
      return sink(i);
  }
}

void SweepEmitter::eval(int i) {
  const LoopInst& at = inst(i);
  if (e_.schedule.values[i].affine) return;  // becomes vectors only where something needs them
  if (at.op == LoopOp::uniform) return eval_random(i);
  if (at.op == LoopOp::load) {
    Vectors vectors = load(at.operand);
    for (int u = 0; u < unroll_; ++u) {
      vectors[u] = emit_widen(b_, vectors[u], e_.loop.operands[at.operand].dtype);
    }
    values_[i] = vectors;
    return;
  }
  if (eval_index_compare(i)) return;
  Vectors vectors{};
  for (int u = 0; u < unroll_; ++u) {
    std::vector<Value*> args;
    std::vector<DType> types;
    for (int a : at.args) {
      if (a < 0) break;
      args.push_back(vector_of(a, u));
      types.push_back(inst(a).dtype);
    }
    vectors[u] = emit_elementwise(b_, at, types, args);
  }
  values_[i] = vectors;
}

/// start + lane compared with c is lane compared with c - start, clamped to where lanes can be.
bool SweepEmitter::eval_index_compare(int i) {
  const LoopInst& at = inst(i);
  if (at.op < LoopOp::eq || at.op > LoopOp::ge) return false;
  const auto unit_index = [&](int a) { return affine_.contains(a) && !affine_.at(a).stride; };
  const bool left = unit_index(at.args[0]) && !full(at.args[1]);
  const bool right = unit_index(at.args[1]) && !full(at.args[0]);
  if (!left && !right) return false;
  Value* limit = e_.scalars[at.args[left ? 1 : 0]];
  Value* start = affine_start(at.args[left ? 0 : 1]);
  Value* distance = b_.CreateBinaryIntrinsic(llvm::Intrinsic::ssub_sat, limit, start);
  distance = b_.CreateBinaryIntrinsic(llvm::Intrinsic::smax, distance, e_.constant64(-1));
  distance = b_.CreateBinaryIntrinsic(llvm::Intrinsic::smin, distance, e_.constant64(kMaxBlock));
  Value* other = splat(b_.CreateTrunc(distance, b_.getInt32Ty()));
  Vectors vectors{};
  for (int u = 0; u < unroll_; ++u) {
    Value* lane = lanes(b_.getInt32Ty(), u * e_.width);
    vectors[u] = left ? emit_compare(b_, at.op, lane, other) : emit_compare(b_, at.op, other, lane);
  }
  values_[i] = vectors;
  return true;
}

/// rng_uniform of base/rng.h.
void SweepEmitter::eval_random(int i) {
  const int index = inst(i).args[2];
  const LoopEmitter::Key& key = e_.keys.at(i);
  Type* word = vector(b_.getInt32Ty());
  Constant* factor = ConstantInt::get(word, 0x9E3779B9);
  const auto exact_high = [&](int u) {
    Value* high = b_.CreateTrunc(b_.CreateLShr(vector_of(index, u), 32), word);
    return b_.CreateAdd(b_.CreateMul(high, factor), splat(key.k1));
  };
  Vectors low{}, high{};
  if (affine_.contains(index)) {
    const Affine at = affine_.at(index);
    // Low words wrap as i64 does: 32-bit arithmetic is exact.
    Value* start = splat(b_.CreateTrunc(affine_start(index), b_.getInt32Ty()));
    Value* stride = at.stride ? splat(b_.CreateTrunc(at.stride, b_.getInt32Ty())) : nullptr;
    for (int u = 0; u < unroll_; ++u) {
      Value* distance = lanes(b_.getInt32Ty(), u * e_.width);
      if (stride) distance = b_.CreateMul(distance, stride);
      low[u] = b_.CreateAdd(start, distance);
    }
    llvm::BasicBlock *near = b_.GetInsertBlock(), *cross = e_.block("cross"),
                     *done = e_.block("draw");
    b_.CreateCondBr(at.high_varies, cross, done,
                    llvm::MDBuilder(b_.getContext()).createBranchWeights(1, 1 << 20));
    b_.SetInsertPoint(cross);
    const bool had_vectors = values_.contains(index);
    Vectors exact{};
    for (int u = 0; u < unroll_; ++u) exact[u] = exact_high(u);
    if (!had_vectors) values_.erase(index);  // they live in this block only
    b_.CreateBr(done);
    b_.SetInsertPoint(done);
    for (int u = 0; u < unroll_; ++u) {
      PHINode* phi = b_.CreatePHI(word, 2);
      phi->addIncoming(random_high_.at(i), near);
      phi->addIncoming(exact[u], cross);
      high[u] = phi;
    }
  } else {
    for (int u = 0; u < unroll_; ++u) {
      low[u] = b_.CreateTrunc(vector_of(index, u), word);
      high[u] = exact_high(u);
    }
  }
  Vectors vectors{};
  for (int u = 0; u < unroll_; ++u) {
    Value* x = emit_mix32(b_, b_.CreateXor(low[u], splat(key.k0)));
    x = emit_mix32(b_, b_.CreateAdd(x, high[u]));
    x = b_.CreateSIToFP(b_.CreateLShr(x, ConstantInt::get(word, 8)), vector(b_.getFloatTy()));
    vectors[u] = b_.CreateFMul(x, ConstantFP::get(x->getType(), 0x1p-24));
  }
  values_[i] = vectors;
}

void SweepEmitter::reduce(Reduction& reduction) {
  const LoopInst& at = inst(reduction.inst);
  Type* type = reduction.identity->getType();
  for (int u = 0; u < unroll_; ++u) {
    Value* value = vector_of(at.args[0], u);
    if (value->getType() != type) {  // f32 added into f64 memory, or the reverse
      const bool widen = type->getScalarType()->isDoubleTy();
      value = widen ? b_.CreateFPExt(value, type) : b_.CreateFPTrunc(value, type);
    }
    Value* inside = b_.CreateICmpSLT(masks_[u], Constant::getNullValue(masks_[u]->getType()));
    value = b_.CreateSelect(inside, value, reduction.identity);
    reduction.next[u] = combine(at.op, value, reduction.in_body[u]);
  }
}

void SweepEmitter::sink(int i) {
  const LoopInst& at = inst(i);
  const int a = at.args[0];
  const DType dtype = e_.loop.operands[at.operand].dtype;
  Vectors memory{};
  if (at.op == LoopOp::store) {
    for (int u = 0; u < unroll_; ++u) {
      memory[u] = emit_narrow(b_, vector_of(a, u), dtype, inst(a).dtype == dtype);
    }
  } else {
    memory = load(at.operand);
    for (int u = 0; u < unroll_; ++u) {
      Value* value = vector_of(a, u);
      Type* type = memory[u]->getType();
      if (value->getType() != type) {
        const bool widen = type->getScalarType()->isDoubleTy();
        value = widen ? b_.CreateFPExt(value, type) : b_.CreateFPTrunc(value, type);
      }
      memory[u] = b_.CreateFAdd(memory[u], value);
    }
  }
  store(at.operand, memory);
}

}  // namespace espalier::cpu::jit
