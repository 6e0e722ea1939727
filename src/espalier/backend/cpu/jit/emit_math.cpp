// SPDX-License-Identifier: Apache-2.0
// Polynomials are minimax fits (Remez exchange on the relative error of the whole function, each
// coefficient rounded to f32 in turn). Every step is an explicit fma, so that scalars, vectors of
// any width and the ends of rows give the same bits.
#include "espalier/backend/cpu/jit/emit_math.h"

#include <fmt/format.h>
#include <llvm/IR/Intrinsics.h>
#include <llvm/IR/MDBuilder.h>
#include <llvm/IR/Module.h>

#include <bit>
#include <initializer_list>
#include <limits>

namespace espalier::cpu::jit {
namespace {

using llvm::ConstantFP;
using llvm::ConstantInt;
using llvm::Type;
using llvm::Value;
using llvm::Intrinsic::ID;
using plan::LoopOp;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

Value* real(Value* like, double value) { return ConstantFP::get(like->getType(), value); }
Value* bits(Value* like, uint64_t value) { return ConstantInt::get(like->getType(), value); }

/// A constant of a polynomial. For 8 lanes it is read from memory as a whole vector, which AVX2
/// does within the fma; LLVM would spend a register and an instruction on a broadcast. AVX-512
/// broadcasts within the fma.
Value* coefficient(Builder& b, Value* like, double value) {
  auto* constant = llvm::cast<llvm::Constant>(real(like, value));
  auto* type = llvm::dyn_cast<llvm::FixedVectorType>(like->getType());
  if (!type || type->getNumElements() != 8 || !type->getElementType()->isFloatTy()) return constant;
  llvm::Module& module = *b.GetInsertBlock()->getModule();
  const std::string name =
      fmt::format("c{:08x}", std::bit_cast<uint32_t>(static_cast<float>(value)));
  llvm::GlobalVariable* global = module.getGlobalVariable(name, /*AllowInternal=*/true);
  if (!global) {
    global = new llvm::GlobalVariable(module, type, /*isConstant=*/true,
                                      llvm::GlobalValue::PrivateLinkage, constant, name);
    global->setAlignment(llvm::Align(32));
  }
  return b.CreateAlignedLoad(type, global, llvm::Align(32));
}

Value* horner(Builder& b, Value* x, std::initializer_list<double> high_to_low) {
  auto c = high_to_low.begin();
  Value* sum = real(x, *c);
  while (++c != high_to_low.end()) sum = emit_fma(b, sum, x, coefficient(b, x, *c));
  return sum;
}

Value* as_int(Builder& b, Value* x) {
  const unsigned width = x->getType()->getScalarSizeInBits();
  return b.CreateBitCast(x, with_lanes_of(x->getType(), b.getIntNTy(width)));
}
Value* as_float(Builder& b, Value* x) {
  const bool wide = x->getType()->getScalarSizeInBits() == 64;
  return b.CreateBitCast(x, with_lanes_of(x->getType(), wide ? b.getDoubleTy() : b.getFloatTy()));
}

Value* copysign(Builder& b, Value* magnitude, Value* sign) {
  return b.CreateBinaryIntrinsic(llvm::Intrinsic::copysign, magnitude, sign);
}
Value* fabs(Builder& b, Value* x) { return b.CreateUnaryIntrinsic(llvm::Intrinsic::fabs, x); }

/// Limits that let NaN through: x86 min and max give their second operand when unordered.
Value* at_most(Builder& b, Value* x, double limit) {
  Value* c = real(x, limit);
  return b.CreateSelect(b.CreateFCmpOLT(c, x), c, x);
}
Value* at_least(Builder& b, Value* x, double limit) {
  Value* c = real(x, limit);
  return b.CreateSelect(b.CreateFCmpOGT(c, x), c, x);
}

/// x = n ln 2 + r with |r| <= ln(2)/2. n by adding 1.5 * 2^23, whose low bits then hold it.
struct Reduced {
  Value* n;  // i32
  Value* r;
};
Reduced reduce_exp(Builder& b, Value* x) {
  constexpr double kMagic = 0x1.8p23;
  Value* t = emit_fma(b, x, real(x, 0x1.715476p0), real(x, kMagic));
  Value* n = b.CreateFSub(t, real(x, kMagic));
  Value* r = emit_fma(b, n, real(x, -0x1.62e43p-1), x);
  r = emit_fma(b, n, real(x, 0x1.05c61p-29), r);
  Value* t_bits = as_int(b, t);
  return {b.CreateSub(t_bits, bits(t_bits, 0x4B400000)), r};
}
/// 2^n for -126 <= n <= 127.
Value* power_of_two(Builder& b, Value* n) {
  return as_float(b, b.CreateShl(b.CreateAdd(n, bits(n, 127)), bits(n, 23)));
}
/// e^r - 1 on the reduced range.
Value* expm1_reduced(Builder& b, Value* r) {
  Value* q = horner(
      b, r,
      {1.383871073e-03f, 8.367056958e-03f, 4.166774452e-02f, 1.666653901e-01f, 4.999999702e-01f});
  return emit_fma(b, b.CreateFMul(r, r), q, r);
}

/// In two halves of the exponent, so that subnormal results round once.
Value* exp_f32(Builder& b, Value* x) {
  const auto [n, r] = reduce_exp(b, at_least(b, at_most(b, x, 89.0), -104.0));
  Value* p = b.CreateFAdd(expm1_reduced(b, r), real(x, 1.0));
  Value* half = b.CreateAShr(n, bits(n, 1));
  p = b.CreateFMul(p, power_of_two(b, half));
  return b.CreateFMul(p, power_of_two(b, b.CreateSub(n, half)));
}

/// x = 2^e m with 2/3 <= m < 4/3; log x = e ln 2 + log1p(m - 1).
Value* log_f32(Builder& b, Value* x) {
  Value* subnormal = b.CreateFCmpOLT(x, real(x, 0x1p-126));
  Value* scaled = b.CreateSelect(subnormal, b.CreateFMul(x, real(x, 0x1p23)), x);
  Value* word = as_int(b, scaled);
  Value* exponent = b.CreateAnd(b.CreateSub(word, bits(word, 0x3F2AAAAB)), bits(word, 0xFF800000));
  Value* f = b.CreateFSub(as_float(b, b.CreateSub(word, exponent)), real(x, 1.0));
  Value* e = b.CreateSIToFP(b.CreateAShr(exponent, bits(word, 23)), x->getType());
  e = b.CreateFAdd(e, b.CreateSelect(subnormal, real(x, -23.0), real(x, 0.0)));
  Value* q =
      horner(b, f,
             {-1.294656992e-01f, 1.399250627e-01f, -1.217291504e-01f, 1.400443465e-01f,
              -1.668120772e-01f, 2.001047730e-01f, -2.499978393e-01f, 3.333321512e-01f, -0.5});
  Value* low = b.CreateFMul(e, real(x, -0x1.05c61p-29));
  Value* sum = b.CreateFAdd(f, emit_fma(b, b.CreateFMul(f, f), q, low));
  Value* result = emit_fma(b, e, real(x, 0x1.62e43p-1), sum);
  Value* pole = b.CreateSelect(b.CreateFCmpOEQ(x, real(x, 0.0)), real(x, -kInfinity),
                               real(x, std::numeric_limits<double>::quiet_NaN()));
  result = b.CreateSelect(b.CreateFCmpOGT(x, real(x, 0.0)), result, pole);
  return b.CreateSelect(b.CreateFCmpOEQ(x, real(x, kInfinity)), x, result);
}

/// expm1(2|x|) / (expm1(2|x|) + 2), with the sign of x. From 10 on the quotient is 1.
Value* tanh_f32(Builder& b, Value* x) {
  Value* magnitude = fabs(b, x);
  Value* twice = at_most(b, b.CreateFAdd(magnitude, magnitude), 20.0);
  const auto [n, r] = reduce_exp(b, twice);
  Value* scale = power_of_two(b, n);
  Value* e = emit_fma(b, expm1_reduced(b, r), scale, b.CreateFSub(scale, real(x, 1.0)));
  return copysign(b, b.CreateFDiv(e, b.CreateFAdd(e, real(x, 2.0))), x);
}

/// Up to 0.9: x + x P(x^2). Beyond: 1 - exp(Q(|x|) - |x|); from 3.95 on that is 1.
Value* erf_f32(Builder& b, Value* x) {
  Value* magnitude = fabs(b, x);
  Value* small = horner(b, b.CreateFMul(x, x),
                        {-6.020798464e-04f, 4.998959135e-03f, -2.677049302e-02f, 1.128192171e-01f,
                         -3.761250377e-01f, 1.283791512e-01f});
  small = emit_fma(b, small, x, x);
  Value* t = at_most(b, magnitude, 3.95);
  Value* q = horner(b, t,
                    {1.982148533e-04f, -3.065456636e-03f, 2.231512032e-02f, -1.041135490e-01f,
                     -6.369761825e-01f, -1.277972013e-01f, -1.664558804e-04f});
  const auto [n, r] = reduce_exp(b, b.CreateFSub(q, t));
  Value* scale = power_of_two(b, n);
  Value* rest = emit_fma(b, expm1_reduced(b, r), scale, scale);
  Value* large = copysign(b, b.CreateFSub(real(x, 1.0), rest), x);
  return b.CreateSelect(b.CreateFCmpOLT(magnitude, real(x, 0.9)), small, large);
}

/// Applies a function of runtime.cpp to all lanes through memory: `function(double* x, [y,] n)`.
Value* call_map(Builder& b, const char* name, std::initializer_list<Value*> args) {
  Type* type = (*args.begin())->getType();
  llvm::BasicBlock& entry = b.GetInsertBlock()->getParent()->getEntryBlock();
  Builder at_entry(&entry, entry.begin());
  std::vector<Value*> pointers;
  for (Value* arg : args) {
    pointers.push_back(at_entry.CreateAlloca(type));
    b.CreateStore(arg, pointers.back());
  }
  std::vector<Type*> types(pointers.size(), b.getPtrTy());
  types.push_back(b.getInt64Ty());
  auto* vector = llvm::dyn_cast<llvm::FixedVectorType>(type);
  Value* result = pointers.front();
  pointers.push_back(b.getInt64(vector ? vector->getNumElements() : 1));
  llvm::Module* module = entry.getParent()->getParent();
  auto callee =
      module->getOrInsertFunction(name, llvm::FunctionType::get(b.getVoidTy(), types, false));
  llvm::cast<llvm::Function>(callee.getCallee())->setDoesNotThrow();
  b.CreateCall(callee, pointers);
  return b.CreateLoad(type, result);
}

/// Sine (quadrant 0) or cosine (quadrant 1): x = n pi/2 + r by f64 arithmetic, exact enough below
/// 2^40; larger and infinite lanes go to libm.
Value* sine_f32(Builder& b, Value* x, int quadrant) {
  Value* wide = b.CreateFPExt(x, with_lanes_of(x->getType(), b.getDoubleTy()));
  Value* t = emit_fma(b, wide, real(wide, 0x1.45f306dc9c883p-1), real(wide, 0x1.8p52));
  Value* n = b.CreateFSub(t, real(wide, 0x1.8p52));
  Value* rest = emit_fma(b, n, real(wide, -0x1.921fb54442d18p0), wide);
  rest = emit_fma(b, n, real(wide, -0x1.1a62633145c07p-54), rest);
  Value* r = b.CreateFPTrunc(rest, x->getType());
  Value* q = b.CreateTrunc(as_int(b, t), with_lanes_of(x->getType(), b.getInt32Ty()));
  q = b.CreateAdd(q, bits(q, quadrant));
  Value* s = b.CreateFMul(r, r);
  Value* sine = horner(b, s, {-1.951828453e-04f, 8.332189173e-03f, -1.666665524e-01f});
  sine = copysign(b, emit_fma(b, b.CreateFMul(r, s), sine, r), r);
  Value* cosine = horner(b, s, {2.443232734e-05f, -1.388730947e-03f, 4.166664556e-02f});
  cosine = emit_fma(b, b.CreateFMul(s, s), cosine, emit_fma(b, s, real(s, -0.5), real(s, 1.0)));
  Value* odd = b.CreateICmpNE(b.CreateAnd(q, bits(q, 1)), bits(q, 0));
  Value* result = as_int(b, b.CreateSelect(odd, cosine, sine));
  result = as_float(b, b.CreateXor(result, b.CreateShl(b.CreateAnd(q, bits(q, 2)), bits(q, 30))));

  Value* huge = b.CreateFCmpOGE(fabs(b, x), real(x, 0x1p40));
  Value* any = x->getType()->isVectorTy() ? b.CreateOrReduce(huge) : huge;
  llvm::BasicBlock* near = b.GetInsertBlock();
  auto* far = llvm::BasicBlock::Create(b.getContext(), "far", near->getParent());
  auto* done = llvm::BasicBlock::Create(b.getContext(), "near", near->getParent());
  b.CreateCondBr(any, far, done, llvm::MDBuilder(b.getContext()).createBranchWeights(1, 1 << 20));
  b.SetInsertPoint(far);
  // Only the lanes that need it: a value must not depend on its neighbours.
  Value* exact = call_map(b, quadrant ? "espalier_jit_cosf" : "espalier_jit_sinf", {x});
  Value* far_lanes = b.CreateFCmpOGE(fabs(b, x), real(x, 0x1p40));
  Value* mixed = b.CreateSelect(far_lanes, exact, result);
  b.CreateBr(done);
  b.SetInsertPoint(done);
  llvm::PHINode* phi = b.CreatePHI(x->getType(), 2);
  phi->addIncoming(result, near);
  phi->addIncoming(mixed, far);
  return phi;
}

/// log2 of a positive f64 (from f32, so never subnormal) to 1e-13 of its value: 2 atanh(s) with
/// s = (m-1)/(m+1), |s| <= 0.172, by its own series.
Value* log2_f64(Builder& b, Value* x) {
  Value* word = as_int(b, x);
  Value* exponent = b.CreateAnd(b.CreateSub(word, bits(word, 0x3FE6A09E00000000)),
                                bits(word, 0xFFF0000000000000));
  Value* m = as_float(b, b.CreateSub(word, exponent));
  // The exponent as a double without an i64 conversion, which AVX2 lacks.
  Value* e = b.CreateAShr(exponent, bits(word, 52));
  e = b.CreateFSub(as_float(b, b.CreateAdd(e, bits(word, 0x4338000000000000))), real(x, 0x1.8p52));
  Value* s = b.CreateFDiv(b.CreateFSub(m, real(m, 1.0)), b.CreateFAdd(m, real(m, 1.0)));
  constexpr double kTwoLog2E = 2.8853900817779268;
  Value* p = horner(b, b.CreateFMul(s, s),
                    {kTwoLog2E / 15, kTwoLog2E / 13, kTwoLog2E / 11, kTwoLog2E / 9, kTwoLog2E / 7,
                     kTwoLog2E / 5, kTwoLog2E / 3, kTwoLog2E});
  return emit_fma(b, s, p, e);
}

/// 2^x for |x| <= 200 to 1e-10 of its value: Taylor series of e^(r ln 2), |r| <= 1/2.
Value* exp2_f64(Builder& b, Value* x) {
  Value* t = b.CreateFAdd(x, real(x, 0x1.8p52));
  Value* r = b.CreateFSub(x, b.CreateFSub(t, real(x, 0x1.8p52)));
  r = b.CreateFMul(r, real(x, 0.69314718055994531));
  Value* p = horner(b, r,
                    {1.0 / 362880, 1.0 / 40320, 1.0 / 5040, 1.0 / 720, 1.0 / 120, 1.0 / 24, 1.0 / 6,
                     0.5, 1.0, 1.0});
  Value* word = as_int(b, p);
  return as_float(b, b.CreateAdd(word, b.CreateShl(as_int(b, t), bits(word, 52))));
}

/// |x|^y = 2^(y log2|x|) in f64, so that the f32 result is within one unit; then C99's cases.
Value* pow_f32(Builder& b, Value* x, Value* y) {
  Type* wide = with_lanes_of(x->getType(), b.getDoubleTy());
  Value* magnitude = fabs(b, x);
  Value* log2 = log2_f64(b, b.CreateFPExt(magnitude, wide));
  log2 = b.CreateSelect(b.CreateFCmpOEQ(x, real(x, 0.0)), real(log2, -kInfinity), log2);
  log2 = b.CreateSelect(b.CreateFCmpUEQ(magnitude, real(x, kInfinity)),
                        b.CreateFPExt(magnitude, wide), log2);  // infinity, NaN
  Value* product = b.CreateFMul(b.CreateFPExt(y, wide), log2);
  product = at_least(b, at_most(b, product, 200.0), -200.0);
  Value* power = exp2_f64(b, product);
  power = b.CreateSelect(b.CreateFCmpUNO(product, product), product, power);
  Value* result = b.CreateFPTrunc(power, x->getType());

  const auto floor = [&](Value* v) { return b.CreateUnaryIntrinsic(llvm::Intrinsic::floor, v); };
  Value* whole = b.CreateFCmpOEQ(floor(y), y);
  Value* half = b.CreateFMul(y, real(y, 0.5));
  Value* odd = b.CreateAnd(whole, b.CreateFCmpONE(floor(half), half));
  Value* negative = b.CreateFCmpOLT(x, real(x, 0.0));
  Value* finite = b.CreateFCmpONE(x, real(x, -kInfinity));
  result = b.CreateSelect(b.CreateAnd(b.CreateAnd(negative, finite), b.CreateNot(whole)),
                          real(x, std::numeric_limits<double>::quiet_NaN()), result);
  result = b.CreateSelect(odd, copysign(b, result, x), result);
  Value* is_one = b.CreateAnd(b.CreateFCmpOEQ(magnitude, real(x, 1.0)),
                              b.CreateFCmpOEQ(fabs(b, y), real(y, kInfinity)));
  is_one = b.CreateOr(is_one, b.CreateFCmpOEQ(x, real(x, 1.0)));
  is_one = b.CreateOr(is_one, b.CreateFCmpOEQ(y, real(y, 0.0)));
  return b.CreateSelect(is_one, real(x, 1.0), result);
}

bool is_f64(Value* x) { return x->getType()->getScalarType()->isDoubleTy(); }

/// The value of a constant float (scalar or all lanes equal), or nullptr.
const llvm::APFloat* constant_float(Value* x) {
  auto* constant = llvm::dyn_cast<llvm::Constant>(x);
  if (constant && x->getType()->isVectorTy()) constant = constant->getSplatValue();
  auto* number = llvm::dyn_cast_or_null<ConstantFP>(constant);
  return number ? &number->getValueAPF() : nullptr;
}

Value* emit_extreme(Builder& b, Value* x, Value* y, llvm::CmpInst::Predicate wins) {
  const auto is_number = [](Value* v) {
    const llvm::APFloat* number = constant_float(v);
    return number && !number->isNaN();
  };
  if (is_number(y)) std::swap(x, y);
  Value* result = b.CreateSelect(b.CreateFCmp(wins, x, y), x, y);  // y if unordered
  if (is_number(x)) return result;
  return b.CreateSelect(b.CreateFCmpUNO(x, x), x, result);
}

}  // namespace

Type* with_lanes_of(Type* like, Type* scalar) {
  auto* vector = llvm::dyn_cast<llvm::VectorType>(like);
  return vector ? llvm::VectorType::get(scalar, vector->getElementCount()) : scalar;
}

Value* emit_fma(Builder& b, Value* x, Value* y, Value* z) {
  return b.CreateIntrinsic(llvm::Intrinsic::fma, {x->getType()}, {x, y, z});
}

Value* emit_max(Builder& b, Value* x, Value* y) {
  return emit_extreme(b, x, y, llvm::CmpInst::FCMP_OGT);
}
Value* emit_min(Builder& b, Value* x, Value* y) {
  return emit_extreme(b, x, y, llvm::CmpInst::FCMP_OLT);
}

Value* emit_function(Builder& b, LoopOp op, Value* x) {
  const bool wide = is_f64(x);
  switch (op) {
    case LoopOp::exp:
      return wide ? call_map(b, "espalier_jit_exp", {x}) : exp_f32(b, x);
    case LoopOp::log:
      return wide ? call_map(b, "espalier_jit_log", {x}) : log_f32(b, x);
    case LoopOp::tanh:
      return wide ? call_map(b, "espalier_jit_tanh", {x}) : tanh_f32(b, x);
    case LoopOp::erf:
      return wide ? call_map(b, "espalier_jit_erf", {x}) : erf_f32(b, x);
    case LoopOp::sin:
      return wide ? call_map(b, "espalier_jit_sin", {x}) : sine_f32(b, x, 0);
    case LoopOp::cos:
      return wide ? call_map(b, "espalier_jit_cos", {x}) : sine_f32(b, x, 1);
    default:
      llvm_unreachable("not a function");
  }
}

Value* emit_pow(Builder& b, Value* x, Value* y) {
  if (const llvm::APFloat* exponent = constant_float(y)) {  // powers that fixed exponents ask for
    if (exponent->isExactlyValue(1.0)) return x;
    if (exponent->isExactlyValue(2.0)) return b.CreateFMul(x, x);
    if (exponent->isExactlyValue(3.0)) return b.CreateFMul(b.CreateFMul(x, x), x);
  }
  return is_f64(x) ? call_map(b, "espalier_jit_pow", {x, y}) : pow_f32(b, x, y);
}

Value* emit_mix32(Builder& b, Value* x) {
  x = b.CreateXor(x, b.CreateLShr(x, bits(x, 16)));
  x = b.CreateMul(x, bits(x, 0x7FEB352D));
  x = b.CreateXor(x, b.CreateLShr(x, bits(x, 15)));
  x = b.CreateMul(x, bits(x, 0x846CA68B));
  return b.CreateXor(x, b.CreateLShr(x, bits(x, 16)));
}

Value* emit_mix64(Builder& b, Value* x) {
  x = b.CreateAdd(x, bits(x, 0x9E3779B97F4A7C15));
  x = b.CreateMul(b.CreateXor(x, b.CreateLShr(x, 30)), bits(x, 0xBF58476D1CE4E5B9));
  x = b.CreateMul(b.CreateXor(x, b.CreateLShr(x, 27)), bits(x, 0x94D049BB133111EB));
  return b.CreateXor(x, b.CreateLShr(x, 31));
}

Value* emit_divide_i64(Builder& b, Value* x, Value* y) {
  return call_map(b, "espalier_jit_divide", {x, y});
}

}  // namespace espalier::cpu::jit
