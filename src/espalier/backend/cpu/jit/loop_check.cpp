// SPDX-License-Identifier: Apache-2.0
#include "espalier/backend/cpu/jit/loop_schedule.h"
#include "espalier/base/error.h"

namespace espalier::cpu::jit {
namespace {

using plan::InnerStride;
using plan::Loop;
using plan::LoopInst;
using plan::LoopOp;
using plan::OperandRole;

bool is_float_register(Register reg) { return reg == Register::f32 || reg == Register::f64; }

/// Checks instruction `at` against the ones before it.
class InstChecker {
 public:
  InstChecker(const Loop& loop, int at) : loop_(loop), inst_(loop.insts[at]), at_(at) {}

  void check() const {
    const int count = info(inst_.op).args;
    for (int a = 0; a < 3; ++a) {
      if (a < count) {
        rule(inst_.args[a] >= 0 && inst_.args[a] < at_, "arguments must be earlier instructions");
        const LoopOp op = loop_.insts[inst_.args[a]].op;
        rule(op != LoopOp::store && op != LoopOp::accumulate, "a sink has no value");
      } else {
        rule(inst_.args[a] < 0, "too many arguments");
      }
    }
    check_operand();
    check_types();
  }

 private:
  void rule(bool holds, const char* text) const {
    if (holds) return;
    fail(ErrorKind::internal, "jit", "malformed loop: {}: instruction {} (op {}, {}) of \"{}\"",
         text, at_, info(inst_.op).name, name(inst_.dtype), loop_.key());
  }

  Register arg(int index) const { return register_of(loop_.insts[inst_.args[index]].dtype); }

  void check_operand() const {
    const LoopOp op = inst_.op;
    if (op != LoopOp::load && op != LoopOp::index && op != LoopOp::store &&
        op != LoopOp::accumulate) {
      return;
    }
    rule(inst_.operand >= 0 && inst_.operand < static_cast<int>(loop_.operands.size()),
         "the operand does not exist");
    const plan::LoopOperand& operand = loop_.operands[inst_.operand];
    switch (op) {
      case LoopOp::load:
        rule(operand.role == OperandRole::input || operand.role == OperandRole::output,
             "loads read inputs or outputs");
        rule(operand.dtype == inst_.dtype ||
                 (register_of(operand.dtype) == register_of(inst_.dtype) &&
                  (inst_.dtype == DType::f32 || inst_.dtype == DType::i32)),
             "a load widens but does not convert");
        break;
      case LoopOp::index:
        rule(operand.role == OperandRole::index && inst_.dtype == DType::i64,
             "index needs an index operand and is i64");
        break;
      case LoopOp::store:
        rule(operand.role == OperandRole::output, "stores write outputs");
        rule(register_of(operand.dtype) == arg(0), "a store narrows but does not convert");
        break;
      default:
        rule(operand.role == OperandRole::accumulator, "accumulate needs an accumulator");
        rule(operand.dtype == DType::f32 || operand.dtype == DType::f64,
             "accumulators are f32 or f64");
        rule(is_float_register(arg(0)), "accumulate adds floats");
        rule(inst_.space != plan::LoopSpace::uniform,
             "accumulate needs a row or full space (declared on the instruction)");
        rule(inst_.space == plan::LoopSpace::full || loop_.outer_rank > 0,
             "a flat loop has no rows to accumulate");
        rule(inst_.space == plan::LoopSpace::full || operand.inner == InnerStride::none,
             "a row value cannot be accumulated along the inner dimension");
        break;
    }
  }

  void check_types() const {
    const Register result = register_of(inst_.dtype);
    switch (inst_.op) {
      case LoopOp::neg:
      case LoopOp::abs:
        rule(arg(0) == result && result != Register::i1, "needs a number of the result's type");
        break;
      case LoopOp::exp:
      case LoopOp::log:
      case LoopOp::sqrt:
      case LoopOp::rsqrt:
      case LoopOp::tanh:
      case LoopOp::erf:
      case LoopOp::sin:
      case LoopOp::cos:
      case LoopOp::floor:
        rule(arg(0) == result && is_float_register(result), "needs a float of the result's type");
        break;
      case LoopOp::add:
      case LoopOp::mul:
      case LoopOp::max:
      case LoopOp::min:
        rule(arg(0) == result && arg(1) == result, "needs arguments of the result's type");
        break;
      case LoopOp::sub:
      case LoopOp::div:
        rule(arg(0) == result && arg(1) == result && result != Register::i1,
             "needs numbers of the result's type");
        break;
      case LoopOp::pow:
        rule(arg(0) == result && arg(1) == result && is_float_register(result),
             "needs floats of the result's type");
        break;
      case LoopOp::eq:
      case LoopOp::ne:
      case LoopOp::lt:
      case LoopOp::le:
      case LoopOp::gt:
      case LoopOp::ge:
        rule(result == Register::i1 && arg(0) == arg(1), "compares two values of one type to bool");
        break;
      case LoopOp::logical_not:
      case LoopOp::logical_and:
      case LoopOp::logical_or:
        rule(result == Register::i1, "gives bool");
        break;
      case LoopOp::select:
        rule(arg(0) == Register::i1 && arg(1) == result && arg(2) == result,
             "needs a bool and two values of the result's type");
        break;
      case LoopOp::uniform:
        rule(result == Register::f32 && arg(0) == Register::i64 && arg(1) == Register::i64 &&
                 arg(2) == Register::i64,
             "needs i64 seed, step and index, and gives f32");
        rule(inst_.id >= 0, "needs the position of its stream id");
        break;
      case LoopOp::row_sum:
      case LoopOp::row_max:
        rule(arg(0) == result && result != Register::i1, "needs a number of the result's type");
        rule(loop_.outer_rank > 0, "a flat loop has no rows to reduce");
        break;
      default:
        break;
    }
  }

  const Loop& loop_;
  const LoopInst& inst_;
  int at_;
};

}  // namespace

Register register_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
    case DType::bf16:
    case DType::f16:
      return Register::f32;
    case DType::f64:
      return Register::f64;
    case DType::i32:
    case DType::u8:
      return Register::i32;
    case DType::i64:
      return Register::i64;
    case DType::boolean:
      break;
  }
  return Register::i1;
}

void check_loop(const Loop& loop) {
  ESPALIER_CHECK(loop.outer_rank >= 0, ErrorKind::internal, "jit",
                 "malformed loop: outer rank {} is negative", loop.outer_rank);
  for (int i = 0; i < static_cast<int>(loop.insts.size()); ++i) InstChecker(loop, i).check();
}

}  // namespace espalier::cpu::jit
