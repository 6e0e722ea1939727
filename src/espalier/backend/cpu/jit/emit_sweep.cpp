// SPDX-License-Identifier: Apache-2.0

#include "espalier/backend/cpu/jit/sweep_emitter.h"

namespace espalier::cpu::jit {

using llvm::Constant;
using llvm::ConstantFP;
using llvm::ConstantInt;
using llvm::PHINode;
using llvm::Type;
using llvm::Value;
using plan::InnerStride;
using plan::LoopInst;
using plan::LoopOp;

SweepEmitter::Stream& SweepEmitter::stream(int operand) {
  for (Stream& s : streams_) {
    if (s.operand == operand) return s;
  }
  Stream& s = streams_.emplace_back();
  s.operand = operand;
  s.stage = e_.frame(block_ * e_.element_size(operand));
  return s;
}

void SweepEmitter::find_streams() {
  for (const Step& step : sweep_.steps) {
    const LoopInst& at = inst(step.inst);
    if (step.kind == Step::Kind::eval && at.op == LoopOp::load) stream(at.operand).in = true;
    if (step.kind == Step::Kind::sink) {
      Stream& s = stream(at.operand);
      s.out = true;
      s.in = s.in || at.op == LoopOp::accumulate;
    }
  }
}

/// Everything the body needs that does not change along the row, computed before it.
void SweepEmitter::prepare_scalars() {
  for (const Step& step : sweep_.steps) {
    const int i = step.inst;
    if (e_.schedule.values[i].slot >= 0 && step.kind != Step::Kind::eval) {
      if (step.kind == Step::Kind::keep || step.kind == Step::Kind::reload) {
        scratch_rows_[i] = e_.scratch_row(e_.schedule.values[i].slot);
      }
    }
    if (step.kind == Step::Kind::reload || step.kind == Step::Kind::keep) continue;
    for (int a : inst(i).args) {
      if (a < 0 || full(a) || splats_.contains(a)) continue;
      Value* scalar = e_.scalars[a];
      // Bits travel as words: LLVM has no cheap vectors of i1 across blocks.
      const bool bit = scalar->getType()->isIntegerTy(1) && !llvm::isa<Constant>(scalar);
      splats_[a] = splat(bit ? b_.CreateSExt(scalar, b_.getInt32Ty()) : scalar);
    }
    if (step.kind == Step::Kind::eval && e_.schedule.values[i].affine) prepare_affine(i);
    if (step.kind == Step::Kind::eval && inst(i).op == LoopOp::uniform) prepare_random(i);
    if (step.kind == Step::Kind::reduce) prepare_reduction(i);
  }
}

void SweepEmitter::prepare_affine(int i) {
  Affine& value = affine_[i];
  const LoopInst& at = inst(i);
  if (at.op == LoopOp::index) {
    value.start = e_.rows[at.operand];
    if (e_.loop.operands[at.operand].inner == InnerStride::strided) {
      value.stride = e_.inner_strides[at.operand];
    }
    return;
  }
  const bool left = full(at.args[0]);
  const Affine& base = affine_.at(at.args[left ? 0 : 1]);
  Value* other = e_.scalars[at.args[left ? 1 : 0]];
  value.stride = base.stride;
  value.start =
      at.op == LoopOp::add ? b_.CreateAdd(base.start, other) : b_.CreateSub(base.start, other);
}

/// The high word of the index is constant along a row unless the row crosses a multiple of 2^32.
void SweepEmitter::prepare_random(int i) {
  const int index = inst(i).args[2];
  if (!affine_.contains(index)) return;
  Affine& at = affine_.at(index);
  const auto high = [&](Value* v) { return b_.CreateTrunc(b_.CreateLShr(v, 32), b_.getInt32Ty()); };
  Value* last = b_.CreateSub(e_.extent, e_.constant64(1));
  if (at.stride) last = b_.CreateMul(last, at.stride);
  Value* first_high = high(at.start);
  if (!at.high_varies) {
    at.high_varies = b_.CreateICmpNE(first_high, high(b_.CreateAdd(at.start, last)));
  }
  Value* term = b_.CreateMul(first_high, b_.getInt32(0x9E3779B9));
  random_high_[i] = splat(b_.CreateAdd(e_.keys.at(i).k1, term));
}

void SweepEmitter::prepare_reduction(int i) {
  Reduction& reduction = reductions_.emplace_back();
  reduction.inst = i;
  const Register reg = accumulator(i);
  Type* type = vector(register_type(b_.getContext(), reg));
  const bool real = reg == Register::f32 || reg == Register::f64;
  if (inst(i).op != LoopOp::row_max) {
    reduction.identity = Constant::getNullValue(type);
  } else if (real) {
    reduction.identity = ConstantFP::getInfinity(type, true);
  } else {
    reduction.identity =
        ConstantInt::get(type, llvm::APInt::getSignedMinValue(type->getScalarSizeInBits()));
  }
}

Value* SweepEmitter::combine(LoopOp op, Value* x, Value* y) {
  const bool real = x->getType()->isFPOrFPVectorTy();
  if (op == LoopOp::row_max) {
    return real ? emit_max(b_, x, y) : b_.CreateSelect(b_.CreateICmpSGT(x, y), x, y);
  }
  return real ? b_.CreateFAdd(x, y) : b_.CreateAdd(x, y);
}

void SweepEmitter::stage_in(Value* main, Value* rest) {
  for (const Stream& s : streams_) {
    const int64_t size = e_.element_size(s.operand);
    Value* stride = e_.inner_strides[s.operand];
    Value* distance = stride ? b_.CreateMul(main, stride) : main;
    Value* from = b_.CreateGEP(e_.element_type(s.operand), e_.rows[s.operand], distance);
    Value* bytes = e_.constant64(size);
    if (stride) bytes = b_.CreateMul(stride, bytes);
    if (s.in) {
      e_.call_runtime("espalier_jit_stage_in", {s.stage, from, rest, e_.constant64(size), bytes});
    }
  }
}

void SweepEmitter::stage_out(Value* main, Value* rest) {
  for (const Stream& s : streams_) {
    if (!s.out) continue;
    const int64_t size = e_.element_size(s.operand);
    Value* stride = e_.inner_strides[s.operand];
    Value* distance = stride ? b_.CreateMul(main, stride) : main;
    Value* to = b_.CreateGEP(e_.element_type(s.operand), e_.rows[s.operand], distance);
    Value* bytes = e_.constant64(size);
    if (stride) bytes = b_.CreateMul(stride, bytes);
    e_.call_runtime("espalier_jit_stage_out", {s.stage, to, rest, e_.constant64(size), bytes});
  }
}

/// Vectors pairwise, then halves of the last one, to a scalar.
void SweepEmitter::finish(Reduction& reduction) {
  const LoopOp op = inst(reduction.inst).op;
  std::vector<Value*> values(reduction.sums.begin(), reduction.sums.begin() + unroll_);
  while (values.size() > 1) {
    const size_t half = values.size() / 2;
    for (size_t k = 0; k < half; ++k) values[k] = combine(op, values[k], values[k + half]);
    values.resize(half);
  }
  Value* vector = values[0];
  for (int half = e_.width / 2; half >= 1; half /= 2) {
    std::vector<int> low, high;
    for (int lane = 0; lane < half; ++lane) {
      low.push_back(lane);
      high.push_back(half + lane);
    }
    vector = combine(op, b_.CreateShuffleVector(vector, low), b_.CreateShuffleVector(vector, high));
  }
  Value* total = b_.CreateExtractElement(vector, uint64_t{0});
  if (op == LoopOp::accumulate) return e_.accumulate_scalar(reduction.inst, total);
  // A narrower dtype rounds the total: a conversion from the accumulator's type.
  LoopInst convert = inst(reduction.inst);
  convert.op = LoopOp::convert;
  const DType from = accumulator(reduction.inst) == Register::f32 ? DType::f32 : DType::i32;
  const bool narrow =
      convert.dtype == DType::bf16 || convert.dtype == DType::f16 || convert.dtype == DType::u8;
  e_.scalars[reduction.inst] =
      narrow ? emit_elementwise(b_, convert, std::array{from}, std::array{total}) : total;
}

void SweepEmitter::emit() {
  find_streams();
  prepare_scalars();
  Type* i64 = b_.getInt64Ty();
  Value* zero = e_.constant64(0);
  Value* main = b_.CreateAnd(e_.extent, e_.constant64(-block_));
  Value* rest = b_.CreateSub(e_.extent, main);
  llvm::BasicBlock *before = b_.GetInsertBlock(), *pass = e_.block("pass"),
                   *body = e_.block("body"), *passed = e_.block("passed"),
                   *stage = e_.block("stage"), *unstage = e_.block("unstage"),
                   *done = e_.block("swept");
  b_.CreateBr(pass);

  // A pass: whole blocks first, then the partial one on the stage.
  b_.SetInsertPoint(pass);
  const auto phi = [&](Type* type, Value* first) {
    PHINode* node = b_.CreatePHI(type, 2);
    node->addIncoming(first, before);
    return node;
  };
  PHINode* from = phi(i64, zero);
  PHINode* limit = phi(i64, main);
  for (Stream& s : streams_) {
    s.pointer = phi(b_.getPtrTy(), e_.rows[s.operand]);
    if (e_.inner_strides[s.operand]) s.stride = phi(i64, e_.inner_strides[s.operand]);
  }
  for (Reduction& reduction : reductions_) {
    for (int u = 0; u < unroll_; ++u) {
      reduction.sums[u] = phi(reduction.identity->getType(), reduction.identity);
    }
  }
  Type* mask = vector(b_.getInt32Ty());
  if (!reductions_.empty()) {
    for (int u = 0; u < unroll_; ++u) masks_[u] = phi(mask, Constant::getAllOnesValue(mask));
  }
  b_.CreateCondBr(b_.CreateICmpSLT(from, limit), body, passed);

  b_.SetInsertPoint(body);
  PHINode* i = b_.CreatePHI(i64, 2);
  i->addIncoming(from, pass);
  i_ = i;
  for (Reduction& reduction : reductions_) {
    for (int u = 0; u < unroll_; ++u) {
      reduction.in_body[u] = b_.CreatePHI(reduction.identity->getType(), 2);
      reduction.in_body[u]->addIncoming(reduction.sums[u], pass);
    }
  }
  for (const Step& step : sweep_.steps) emit_step(step);
  llvm::BasicBlock* body_end = b_.GetInsertBlock();
  Value* next = b_.CreateAdd(i, e_.constant64(block_));
  i->addIncoming(next, body_end);
  b_.CreateCondBr(b_.CreateICmpSLT(next, limit), body, passed);

  b_.SetInsertPoint(passed);
  for (Reduction& reduction : reductions_) {
    for (int u = 0; u < unroll_; ++u) {
      reduction.in_body[u]->addIncoming(reduction.next[u], body_end);
      PHINode* out = b_.CreatePHI(reduction.identity->getType(), 2);
      out->addIncoming(reduction.sums[u], pass);
      out->addIncoming(reduction.next[u], body_end);
      reduction.sums[u]->addIncoming(out, stage);
      reduction.sums[u] = out;
    }
  }
  llvm::BasicBlock* finished = e_.block("finished");
  b_.CreateCondBr(b_.CreateICmpSLT(limit, e_.extent), stage, finished);

  b_.SetInsertPoint(stage);
  stage_in(main, rest);
  from->addIncoming(main, stage);
  limit->addIncoming(b_.CreateAdd(main, e_.constant64(block_)), stage);
  for (Stream& s : streams_) {
    Value* origin = b_.CreateGEP(e_.element_type(s.operand), s.stage, b_.CreateNeg(main));
    s.pointer->addIncoming(origin, stage);
    if (s.stride) s.stride->addIncoming(e_.constant64(1), stage);
  }
  if (masks_[0]) {
    Value* inside = splat(b_.CreateTrunc(rest, b_.getInt32Ty()));
    for (int u = 0; u < unroll_; ++u) {
      Value* lane = lanes(b_.getInt32Ty(), u * e_.width);
      masks_[u]->addIncoming(b_.CreateSExt(b_.CreateICmpSLT(lane, inside), mask), stage);
    }
  }
  b_.CreateBr(pass);

  b_.SetInsertPoint(finished);
  b_.CreateCondBr(b_.CreateICmpSGT(limit, e_.extent), unstage, done);
  b_.SetInsertPoint(unstage);
  stage_out(main, rest);
  b_.CreateBr(done);
  b_.SetInsertPoint(done);
  for (Reduction& reduction : reductions_) finish(reduction);
}

void emit_sweep(LoopEmitter& emitter, const Sweep& sweep) { SweepEmitter(emitter, sweep).emit(); }

}  // namespace espalier::cpu::jit
