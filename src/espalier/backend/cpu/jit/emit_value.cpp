// SPDX-License-Identifier: Apache-2.0
#include "espalier/backend/cpu/jit/emit_value.h"

#include <llvm/IR/Intrinsics.h>

namespace espalier::cpu::jit {
namespace {

using llvm::CmpInst;
using llvm::Constant;
using llvm::ConstantFP;
using llvm::ConstantInt;
using llvm::Type;
using llvm::Value;
using plan::LoopInst;
using plan::LoopOp;

Value* zero_of(Value* like) { return Constant::getNullValue(like->getType()); }

/// An f32 rounded to bf16, as its 32 bits: to_bf16 of tensor/dtype.h before the shift.
Value* bf16_bits(Builder& b, Value* x) {
  Type* ints = with_lanes_of(x->getType(), b.getInt32Ty());
  const auto word = [&](uint64_t value) { return ConstantInt::get(ints, value); };
  Value* bits = b.CreateBitCast(x, ints);
  Value* odd = b.CreateAnd(b.CreateLShr(bits, word(16)), word(1));
  Value* rounded = b.CreateAdd(b.CreateAdd(bits, word(0x7FFF)), odd);
  Value* quiet = b.CreateOr(bits, word(0x400000));
  return b.CreateSelect(b.CreateFCmpUNO(x, x), quiet, rounded);
}

Value* round_f32(Builder& b, Value* x, DType dtype) {
  if (dtype == DType::bf16) {
    Value* bits = bf16_bits(b, x);
    bits = b.CreateAnd(bits, ConstantInt::get(bits->getType(), 0xFFFF0000));
    return b.CreateBitCast(bits, x->getType());
  }
  if (dtype == DType::f16) {
    Value* half = b.CreateFPTrunc(x, with_lanes_of(x->getType(), b.getHalfTy()));
    return b.CreateFPExt(half, x->getType());
  }
  return x;
}

/// f64 to f32 rounded to odd: a later rounding to fewer bits then sees what was cut off.
Value* narrow_to_odd(Builder& b, Value* x) {
  Type* floats = with_lanes_of(x->getType(), b.getFloatTy());
  Type* ints = with_lanes_of(x->getType(), b.getInt32Ty());
  Value* f = b.CreateFPTrunc(x, floats);
  Value* back = b.CreateFPExt(f, x->getType());
  Value* away = b.CreateFCmpOGT(b.CreateUnaryIntrinsic(llvm::Intrinsic::fabs, back),
                                b.CreateUnaryIntrinsic(llvm::Intrinsic::fabs, x));
  Value* bits = b.CreateBitCast(f, ints);
  Value* odd = b.CreateOr(b.CreateSub(bits, b.CreateZExt(away, ints)), ConstantInt::get(ints, 1));
  Value* finite = b.CreateFCmpOLT(b.CreateUnaryIntrinsic(llvm::Intrinsic::fabs, f),
                                  ConstantFP::getInfinity(floats));
  Value* inexact = b.CreateAnd(b.CreateFCmpONE(back, x), finite);
  return b.CreateSelect(inexact, b.CreateBitCast(odd, floats), f);
}

/// Float to signed integer: truncates, saturates, NaN gives 0.
Value* float_to_int(Builder& b, Value* x, Type* scalar) {
  Type* ints = with_lanes_of(x->getType(), scalar);
  return b.CreateIntrinsic(llvm::Intrinsic::fptosi_sat, {ints, x->getType()}, {x});
}

Value* to_bool(Builder& b, Value* x) {
  if (x->getType()->isIntOrIntVectorTy(1)) return x;
  if (x->getType()->isFPOrFPVectorTy()) return b.CreateFCmpUNE(x, zero_of(x));
  return b.CreateICmpNE(x, zero_of(x));
}

Value* convert_to_float(Builder& b, Value* x, DType to) {
  const bool small = to == DType::bf16 || to == DType::f16;
  Type* doubles = with_lanes_of(x->getType(), b.getDoubleTy());
  Type* floats = with_lanes_of(x->getType(), b.getFloatTy());
  if (x->getType()->isIntOrIntVectorTy(1)) {
    return b.CreateUIToFP(x, to == DType::f64 ? doubles : floats);
  }
  if (x->getType()->isIntOrIntVectorTy()) {
    if (!small) return b.CreateSIToFP(x, to == DType::f64 ? doubles : floats);
    return round_f32(b, narrow_to_odd(b, b.CreateSIToFP(x, doubles)), to);
  }
  const bool wide = x->getType()->getScalarType()->isDoubleTy();
  if (to == DType::f64) return wide ? x : b.CreateFPExt(x, doubles);
  if (!wide) return round_f32(b, x, to);
  return small ? round_f32(b, narrow_to_odd(b, x), to) : b.CreateFPTrunc(x, floats);
}

Value* mask_u8(Builder& b, Value* x) { return b.CreateAnd(x, ConstantInt::get(x->getType(), 255)); }

Value* convert_to_int(Builder& b, Value* x, DType to) {
  Type* scalar = to == DType::i64 ? b.getInt64Ty() : b.getInt32Ty();
  Type* ints = with_lanes_of(x->getType(), scalar);
  if (x->getType()->isFPOrFPVectorTy()) {
    x = float_to_int(b, x, scalar);
  } else if (x->getType()->isIntOrIntVectorTy(1)) {
    x = b.CreateZExt(x, ints);
  } else {
    x = b.CreateSExtOrTrunc(x, ints);
  }
  return to == DType::u8 ? mask_u8(b, x) : x;
}

Value* emit_convert(Builder& b, Value* x, DType from, DType to) {
  if (from == to) return x;
  if (to == DType::boolean) return to_bool(b, x);
  return is_float(to) ? convert_to_float(b, x, to) : convert_to_int(b, x, to);
}

Value* emit_float(Builder& b, const LoopInst& inst, std::span<Value* const> args) {
  Value* x = args[0];
  const auto intrinsic = [&](llvm::Intrinsic::ID id) { return b.CreateUnaryIntrinsic(id, x); };
  switch (inst.op) {
    case LoopOp::neg:
      return b.CreateFNeg(x);
    case LoopOp::abs:
      return intrinsic(llvm::Intrinsic::fabs);
    case LoopOp::sqrt:
      return intrinsic(llvm::Intrinsic::sqrt);
    case LoopOp::rsqrt:
      return b.CreateFDiv(ConstantFP::get(x->getType(), 1.0), intrinsic(llvm::Intrinsic::sqrt));
    case LoopOp::floor:
      return intrinsic(llvm::Intrinsic::floor);
    case LoopOp::add:
      return b.CreateFAdd(x, args[1]);
    case LoopOp::sub:
      return b.CreateFSub(x, args[1]);
    case LoopOp::mul:
      return b.CreateFMul(x, args[1]);
    case LoopOp::div:
      return b.CreateFDiv(x, args[1]);
    case LoopOp::max:
      return emit_max(b, x, args[1]);
    case LoopOp::min:
      return emit_min(b, x, args[1]);
    case LoopOp::pow:
      return emit_pow(b, x, args[1]);
    default:
      return emit_function(b, inst.op, x);
  }
}

/// i32 quotients through f64, where they are exact; x / 0 saturates, 0 / 0 is 0.
Value* divide_int(Builder& b, Value* x, Value* y) {
  if (x->getType()->getScalarSizeInBits() == 64) return emit_divide_i64(b, x, y);
  Type* doubles = with_lanes_of(x->getType(), b.getDoubleTy());
  Value* quotient = b.CreateFDiv(b.CreateSIToFP(x, doubles), b.CreateSIToFP(y, doubles));
  return float_to_int(b, quotient, b.getInt32Ty());
}

Value* emit_int(Builder& b, const LoopInst& inst, std::span<Value* const> args) {
  Value* x = args[0];
  switch (inst.op) {
    case LoopOp::neg:
      return b.CreateNeg(x);
    case LoopOp::abs:
      return b.CreateSelect(b.CreateICmpSLT(x, zero_of(x)), b.CreateNeg(x), x);
    case LoopOp::add:
      return b.CreateAdd(x, args[1]);
    case LoopOp::sub:
      return b.CreateSub(x, args[1]);
    case LoopOp::mul:
      return b.CreateMul(x, args[1]);
    case LoopOp::div:
      return divide_int(b, x, args[1]);
    case LoopOp::max:
      return b.CreateSelect(b.CreateICmpSGT(x, args[1]), x, args[1]);
    default:  // min: the check lets nothing else through
      return b.CreateSelect(b.CreateICmpSLT(x, args[1]), x, args[1]);
  }
}

}  // namespace

Type* register_type(llvm::LLVMContext& context, Register reg) {
  switch (reg) {
    case Register::f32:
      return Type::getFloatTy(context);
    case Register::f64:
      return Type::getDoubleTy(context);
    case Register::i32:
      return Type::getInt32Ty(context);
    case Register::i64:
      return Type::getInt64Ty(context);
    case Register::i1:
      break;
  }
  return Type::getInt1Ty(context);
}

Type* memory_type(llvm::LLVMContext& context, DType dtype) {
  switch (dtype) {
    case DType::bf16:
      return Type::getInt16Ty(context);
    case DType::f16:
      return Type::getHalfTy(context);
    case DType::u8:
    case DType::boolean:
      return Type::getInt8Ty(context);
    default:
      return register_type(context, register_of(dtype));
  }
}

Value* emit_widen(Builder& b, Value* memory, DType dtype) {
  Type* ints = with_lanes_of(memory->getType(), b.getInt32Ty());
  Type* floats = with_lanes_of(memory->getType(), b.getFloatTy());
  switch (dtype) {
    case DType::bf16:
      return b.CreateBitCast(b.CreateShl(b.CreateZExt(memory, ints), ConstantInt::get(ints, 16)),
                             floats);
    case DType::f16:
      return b.CreateFPExt(memory, floats);
    case DType::u8:
      return b.CreateZExt(memory, ints);
    case DType::boolean:
      return b.CreateICmpNE(memory, zero_of(memory));
    default:
      return memory;
  }
}

Value* emit_narrow(Builder& b, Value* value, DType dtype, bool already_rounded) {
  Type* type = with_lanes_of(value->getType(), memory_type(b.getContext(), dtype));
  switch (dtype) {
    case DType::bf16: {
      Type* ints = with_lanes_of(value->getType(), b.getInt32Ty());
      Value* bits = already_rounded ? b.CreateBitCast(value, ints) : bf16_bits(b, value);
      return b.CreateTrunc(b.CreateLShr(bits, ConstantInt::get(ints, 16)), type);
    }
    case DType::f16:
      return b.CreateFPTrunc(value, type);
    case DType::u8:
      return b.CreateTrunc(value, type);
    case DType::boolean:
      return b.CreateZExt(value, type);
    default:
      return value;
  }
}

llvm::Constant* emit_constant(Builder& b, const LoopInst& inst) {
  const Register reg = register_of(inst.dtype);
  Type* type = register_type(b.getContext(), reg);
  const double value = round_to(inst.dtype, inst.value);
  if (reg == Register::f32 || reg == Register::f64) return ConstantFP::get(type, value);
  return ConstantInt::get(type, static_cast<uint64_t>(static_cast<int64_t>(value)), true);
}

Value* emit_compare(Builder& b, LoopOp op, Value* x, Value* y) {
  struct Row {
    CmpInst::Predicate real, sign, plain;
  };
  const auto row = [&]() -> Row {
    switch (op) {
      case LoopOp::eq:
        return {CmpInst::FCMP_OEQ, CmpInst::ICMP_EQ, CmpInst::ICMP_EQ};
      case LoopOp::ne:
        return {CmpInst::FCMP_UNE, CmpInst::ICMP_NE, CmpInst::ICMP_NE};
      case LoopOp::lt:
        return {CmpInst::FCMP_OLT, CmpInst::ICMP_SLT, CmpInst::ICMP_ULT};
      case LoopOp::le:
        return {CmpInst::FCMP_OLE, CmpInst::ICMP_SLE, CmpInst::ICMP_ULE};
      case LoopOp::gt:
        return {CmpInst::FCMP_OGT, CmpInst::ICMP_SGT, CmpInst::ICMP_UGT};
      default:
        return {CmpInst::FCMP_OGE, CmpInst::ICMP_SGE, CmpInst::ICMP_UGE};
    }
  }();
  if (x->getType()->isFPOrFPVectorTy()) return b.CreateFCmp(row.real, x, y);
  return b.CreateICmp(x->getType()->isIntOrIntVectorTy(1) ? row.plain : row.sign, x, y);
}

Value* emit_elementwise(Builder& b, const LoopInst& inst, std::span<const DType> types,
                        std::span<Value* const> args) {
  switch (inst.op) {
    case LoopOp::convert:
      return emit_convert(b, args[0], types[0], inst.dtype);
    case LoopOp::eq:
    case LoopOp::ne:
    case LoopOp::lt:
    case LoopOp::le:
    case LoopOp::gt:
    case LoopOp::ge:
      return emit_compare(b, inst.op, args[0], args[1]);
    case LoopOp::logical_not:
      return b.CreateNot(to_bool(b, args[0]));
    case LoopOp::logical_and:
      return b.CreateAnd(to_bool(b, args[0]), to_bool(b, args[1]));
    case LoopOp::logical_or:
      return b.CreateOr(to_bool(b, args[0]), to_bool(b, args[1]));
    case LoopOp::select: {
      Value* value = b.CreateSelect(args[0], args[1], args[2]);
      const bool same = types[1] == inst.dtype && types[2] == inst.dtype;
      if (same || inst.dtype == DType::f64) return value;
      if (is_float(inst.dtype)) return round_f32(b, value, inst.dtype);
      return inst.dtype == DType::u8 ? mask_u8(b, value) : value;
    }
    default:
      break;
  }
  if (inst.dtype == DType::boolean) {  // add, mul, max, min as numpy has them on bool
    const bool either = inst.op == LoopOp::add || inst.op == LoopOp::max;
    return either ? b.CreateOr(args[0], args[1]) : b.CreateAnd(args[0], args[1]);
  }
  if (is_float(inst.dtype)) {
    Value* result = emit_float(b, inst, args);
    const bool exact = inst.op == LoopOp::neg || inst.op == LoopOp::abs ||
                       inst.op == LoopOp::floor || inst.op == LoopOp::max || inst.op == LoopOp::min;
    bool rounded = exact;
    for (size_t i = 0; i < types.size(); ++i) rounded = rounded && types[i] == inst.dtype;
    return rounded || inst.dtype == DType::f64 ? result : round_f32(b, result, inst.dtype);
  }
  Value* result = emit_int(b, inst, args);
  return inst.dtype == DType::u8 ? mask_u8(b, result) : result;
}

}  // namespace espalier::cpu::jit
