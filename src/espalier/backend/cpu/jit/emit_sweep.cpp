// SPDX-License-Identifier: Apache-2.0
#include <llvm/IR/Intrinsics.h>
#include <llvm/IR/MDBuilder.h>

#include <array>
#include <limits>

#include "espalier/backend/cpu/jit/loop_emitter.h"

namespace espalier::cpu::jit {
namespace {

using llvm::Constant;
using llvm::ConstantFP;
using llvm::ConstantInt;
using llvm::FixedVectorType;
using llvm::PHINode;
using llvm::Type;
using llvm::Value;
using plan::InnerStride;
using plan::LoopInst;
using plan::LoopOp;
using plan::LoopSpace;
using plan::OperandRole;

using Vectors = std::array<Value*, 4>;  // one per unrolled copy

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
    Value* stage = nullptr;
    PHINode* pointer = nullptr;
    PHINode* stride = nullptr;  // strided operands: elements
  };
  struct Affine {  // an i64 value start + i * stride
    Value* start = nullptr;
    Value* stride = nullptr;  // null: 1
    Value* high_varies = nullptr;
  };
  struct Reduction {
    int inst = -1;
    Value* identity = nullptr;
    std::array<PHINode*, 4> sums{};
    std::array<PHINode*, 4> in_body{};
    std::array<Value*, 4> next{};
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
  Value* element(const Stream& s, int u, int lane);
  Vectors load(int operand);
  void store(int operand, const Vectors& memory);
  Value* scratch_at(int inst, int u);
  Value* vector_of(int inst, int u);
  Value* affine_start(int inst);
  // Around it.
  void stage_in(Value* main, Value* rest);
  void stage_out(Value* main, Value* rest);
  void finish(Reduction& reduction);
  Value* combine(LoopOp op, Value* x, Value* y);

  Value* splat(Value* scalar) { return b_.CreateVectorSplat(width(), scalar); }
  unsigned width() const { return static_cast<unsigned>(e_.width); }
  Type* vector(Type* scalar) { return FixedVectorType::get(scalar, width()); }
  Type* memory_vector(int operand) { return vector(e_.element_type(operand)); }
  Constant* lanes(Type* scalar, int first) {
    std::vector<Constant*> values;
    for (int lane = 0; lane < e_.width; ++lane) {
      values.push_back(ConstantInt::get(scalar, static_cast<uint64_t>(first + lane)));
    }
    return llvm::ConstantVector::get(values);
  }
  const LoopInst& inst(int i) const { return e_.loop.insts[i]; }
  bool full(int i) const { return e_.schedule.values[i].space == LoopSpace::full; }
  Register accumulator(int i) const {
    return register_of(inst(i).op == LoopOp::accumulate ? e_.loop.operands[inst(i).operand].dtype
                                                        : inst(i).dtype);
  }

  LoopEmitter& e_;
  Builder& b_;
  const Sweep& sweep_;
  int unroll_;
  int64_t block_;
  std::vector<Stream> streams_;
  std::vector<Reduction> reductions_;
  std::map<int, Vectors> values_;  // full values in the body
  std::map<int, Value*> splats_;   // uniform and row values the body reads
  std::map<int, Affine> affine_;
  std::map<int, Value*> random_high_;   // per uniform: k1 + high word * C, while that is constant
  std::map<int, Value*> scratch_rows_;  // per kept instruction
  std::array<PHINode*, 4> masks_{};     // i32 lanes: all ones where the lane is in the row
  Value* i_ = nullptr;                  // first element of the block
};

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

Value* SweepEmitter::combine(LoopOp op, Value* x, Value* y) {
  const bool real = x->getType()->isFPOrFPVectorTy();
  if (op == LoopOp::row_max) {
    return real ? emit_max(b_, x, y) : b_.CreateSelect(b_.CreateICmpSGT(x, y), x, y);
  }
  return real ? b_.CreateFAdd(x, y) : b_.CreateAdd(x, y);
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

}  // namespace

void emit_sweep(LoopEmitter& emitter, const Sweep& sweep) { SweepEmitter(emitter, sweep).emit(); }

}  // namespace espalier::cpu::jit
