// SPDX-License-Identifier: Apache-2.0
#include "espalier/plan/loop_error.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "espalier/base/error.h"

namespace espalier::plan {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

LoopReal anything() { return {0.0, 0, kInfinity}; }
LoopReal integer(int64_t value) { return {0.0, value, 0.0}; }

/// Largest finite value and smallest subnormal of a float type.
double largest(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return std::numeric_limits<double>::max();
    case DType::bf16:
      return 0x1.FEp127;
    case DType::f16:
      return 65504.0;
    default:
      return static_cast<double>(std::numeric_limits<float>::max());
  }
}
double smallest(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return 0x1p-1074;
    case DType::bf16:
      return 0x1p-133;
    case DType::f16:
      return 0x1p-24;
    default:
      return 0x1p-149;
  }
}

/// Bound of one rounding to `dtype` of a value within `error` of `value`.
double rounding(DType dtype, double value, double error) {
  return unit_roundoff(dtype) * (std::abs(value) + error) + smallest(dtype) / 2;
}

int64_t wrap(DType dtype, uint64_t bits) {
  if (dtype == DType::i64) return static_cast<int64_t>(bits);
  if (dtype == DType::i32) return static_cast<int32_t>(static_cast<uint32_t>(bits));
  return static_cast<int64_t>(bits & (dtype == DType::u8 ? 0xFFu : 1u));
}

int64_t saturate(double value, DType dtype) {
  if (std::isnan(value)) return 0;
  const bool wide = dtype == DType::i64;
  const double limit = wide ? 0x1p63 : 0x1p31;
  const double whole = std::trunc(value);
  if (whole >= limit) return wide ? std::numeric_limits<int64_t>::max() : 0x7FFFFFFF;
  if (whole < -limit) return wide ? std::numeric_limits<int64_t>::min() : -0x80000000ll;
  return static_cast<int64_t>(whole);
}

/// Value and the largest change of a monotone function over [x - e, x + e].
template <typename F>
LoopReal monotone(F function, const LoopReal& x) {
  const double value = function(x.value);
  if (x.error == 0.0) return {value, 0, 0.0};
  const double low = function(x.value - x.error), high = function(x.value + x.error);
  if (std::isnan(low) || std::isnan(high)) return anything();
  return {value, 0, std::max(std::abs(high - value), std::abs(value - low)) * (1 + 1e-12)};
}

LoopReal divide(const LoopReal& a, const LoopReal& b) {
  const double value = a.value / b.value;
  if (a.error == 0.0 && b.error == 0.0) return {value, 0, 0.0};
  if (std::abs(b.value) <= b.error) return anything();
  return {value, 0, (std::abs(value) * b.error + a.error) / (std::abs(b.value) - b.error)};
}

LoopReal power(const LoopReal& a, const LoopReal& b) {
  const double value = std::pow(a.value, b.value);
  if (a.error == 0.0 && b.error == 0.0) return {value, 0, 0.0};
  if (a.value <= a.error) return anything();
  double error = 0.0;
  for (const double x : {a.value - a.error, a.value + a.error}) {
    for (const double y : {b.value - b.error, b.value + b.error}) {
      error = std::max(error, std::abs(std::pow(x, y) - value));
    }
  }
  return {value, 0, error};
}

LoopReal compare(LoopOp op, bool real, const LoopReal& a, const LoopReal& b) {
  if (real && a.error + b.error > 0.0 && !(std::abs(a.value - b.value) > a.error + b.error)) {
    return anything();
  }
  const auto test = [&](auto x, auto y) {
    switch (op) {
      case LoopOp::eq:
        return x == y;
      case LoopOp::ne:
        return x != y;
      case LoopOp::lt:
        return x < y;
      case LoopOp::le:
        return x <= y;
      case LoopOp::gt:
        return x > y;
      default:
        return x >= y;
    }
  };
  return integer(real ? test(a.value, b.value) : test(a.integer, b.integer));
}

bool is_true(DType dtype, const LoopReal& x) {
  return is_float(dtype) ? x.value != 0.0 : x.integer != 0;
}

LoopReal evaluate_int(const LoopInst& inst, const LoopReal& a, const LoopReal& b) {
  const uint64_t x = static_cast<uint64_t>(a.integer), y = static_cast<uint64_t>(b.integer);
  const auto wrapped = [&](uint64_t bits) { return integer(wrap(inst.dtype, bits)); };
  if (inst.dtype == DType::boolean) {
    const bool either = inst.op == LoopOp::add || inst.op == LoopOp::max;
    return integer(either ? x | y : x & y);
  }
  switch (inst.op) {
    case LoopOp::neg:
      return wrapped(0 - x);
    case LoopOp::abs:
      return wrapped(a.integer < 0 ? 0 - x : x);
    case LoopOp::add:
      return wrapped(x + y);
    case LoopOp::sub:
      return wrapped(x - y);
    case LoopOp::mul:
      return wrapped(x * y);
    case LoopOp::max:
      return integer(std::max(a.integer, b.integer));
    case LoopOp::min:
      return integer(std::min(a.integer, b.integer));
    default:
      break;
  }
  if (inst.dtype != DType::i64) {  // quotients go through f64, where they are exact
    const double quotient = static_cast<double>(a.integer) / static_cast<double>(b.integer);
    return wrapped(static_cast<uint64_t>(saturate(quotient, DType::i32)));
  }
  if (b.integer == 0) return integer(0);
  return b.integer == -1 ? wrapped(0 - x) : integer(a.integer / b.integer);
}

LoopReal evaluate_float(const LoopInst& inst, const LoopReal& a, const LoopReal& b,
                        const LoopErrorModel& model) {
  const auto basic = [&](double value, double error) {
    return finish_op(inst.dtype, {value, 0, error}, LoopRounding::basic);
  };
  const auto function = [&](LoopReal r) {
    if (!std::isfinite(r.value)) return r.error == 0.0 ? r : anything();
    const double ulp = inst.dtype == DType::f64 ? 0x1p-52 : 0x1p-23;
    const double floor = inst.dtype == DType::f64 ? 0x1p-1074 : 0x1p-149;
    r.error += model.function_ulps * (ulp * (std::abs(r.value) + r.error) + floor);
    return finish_op(inst.dtype, r, LoopRounding::exact);
  };
  const auto exact = [&](double value, double error) {
    return finish_op(inst.dtype, {value, 0, error}, LoopRounding::exact);
  };
  const auto sqrt_of = [](double x) { return std::sqrt(x); };
  switch (inst.op) {
    case LoopOp::neg:
      return exact(-a.value, a.error);
    case LoopOp::abs:
      return exact(std::abs(a.value), a.error);
    case LoopOp::max:
    case LoopOp::min: {
      const double chosen =
          inst.op == LoopOp::max ? std::max(a.value, b.value) : std::min(a.value, b.value);
      const bool nan = std::isnan(a.value) || std::isnan(b.value);
      return exact(nan ? kNan : chosen, std::max(a.error, b.error));
    }
    case LoopOp::floor: {
      const double low = std::floor(a.value - a.error), high = std::floor(a.value + a.error);
      if (a.error > 0.0 && low != high) return anything();
      return exact(std::floor(a.value), 0.0);
    }
    case LoopOp::add:
      return basic(a.value + b.value, a.error + b.error);
    case LoopOp::sub:
      return basic(a.value - b.value, a.error + b.error);
    case LoopOp::mul: {
      const double spread = a.error * (std::abs(b.value) + b.error) + b.error * std::abs(a.value);
      return basic(a.value * b.value, a.error == 0.0 && b.error == 0.0 ? 0.0 : spread);
    }
    case LoopOp::div: {
      const LoopReal r = divide(a, b);
      return basic(r.value, r.error);
    }
    case LoopOp::sqrt: {
      const LoopReal r = monotone(sqrt_of, a);
      return basic(r.value, r.error);
    }
    case LoopOp::rsqrt: {  // two roundings: the root, then the quotient
      const DType reg = inst.dtype == DType::f64 ? DType::f64 : DType::f32;
      const LoopReal root = finish_op(reg, monotone(sqrt_of, a), LoopRounding::basic);
      const LoopReal r = divide({1.0, 0, 0.0}, root);
      return basic(r.value, r.error);
    }
    case LoopOp::exp:
      return function(monotone([](double x) { return std::exp(x); }, a));
    case LoopOp::log:
      return function(monotone([](double x) { return std::log(x); }, a));
    case LoopOp::tanh:
      return function(monotone([](double x) { return std::tanh(x); }, a));
    case LoopOp::erf:
      return function(monotone([](double x) { return std::erf(x); }, a));
    case LoopOp::sin:
      return function({std::sin(a.value), 0, a.error});
    case LoopOp::cos:
      return function({std::cos(a.value), 0, a.error});
    case LoopOp::pow:
      return function(power(a, b));
    default:
      break;
  }
  fail(ErrorKind::internal, "plan", "loop op {} is not elementwise", info(inst.op).name);
}

}  // namespace

LoopReal finish_op(DType dtype, LoopReal real, LoopRounding mode) {
  if (!is_float(dtype)) return integer(wrap(dtype, static_cast<uint64_t>(real.integer)));
  if (std::isinf(real.error) || std::isnan(real.error)) return anything();
  const DType reg = dtype == DType::f64 ? DType::f64 : DType::f32;
  const bool small = dtype != reg;
  if (real.error == 0.0 && mode != LoopRounding::inexact) {
    real.value = round_to(reg, real.value);
    if (small) real.value = round_to(dtype, real.value);
    return real;
  }
  if (!std::isfinite(real.value)) {
    // An exact argument gives an exact infinity or NaN; else it may have been a large number.
    return real.error == 0.0 ? real : anything();
  }
  if (mode != LoopRounding::exact) real.error += rounding(reg, real.value, real.error);
  if (small) real.error += rounding(dtype, real.value, real.error);
  if (std::abs(real.value) + real.error > largest(dtype)) return anything();
  return real;
}

LoopReal convert_real(DType from, DType to, const LoopReal& x) {
  if (from == to) return x;
  if (std::isinf(x.error)) return anything();
  if (to == DType::boolean) {
    if (x.error > 0.0 && std::abs(x.value) <= x.error) return anything();
    return integer(is_true(from, x));
  }
  if (!is_float(to)) {
    if (!is_float(from)) return integer(wrap(to, static_cast<uint64_t>(x.integer)));
    const int64_t low = saturate(x.value - x.error, to), high = saturate(x.value + x.error, to);
    if (low != high && x.error > 0.0) return anything();
    return integer(wrap(to, static_cast<uint64_t>(saturate(x.value, to))));
  }
  LoopReal r = x;
  if (!is_float(from)) {
    const bool once = to == DType::f32;  // not through double: that would round twice
    r.value =
        once ? static_cast<double>(static_cast<float>(x.integer)) : static_cast<double>(x.integer);
  }
  if (r.error == 0.0) {
    r.value = round_to(to, r.value);
    return r;
  }
  const bool widens = to == DType::f64 || (to == DType::f32 && from != DType::f64);
  if (!widens) r.error += rounding(to, r.value, r.error);
  if (std::abs(r.value) + r.error > largest(to)) return anything();
  return r;
}

LoopReal evaluate_op(const LoopInst& inst, const LoopReal* args, const DType* types,
                     const LoopErrorModel& model) {
  const LoopReal &a = args[0], &b = args[1], &c = args[2];
  if (inst.op == LoopOp::constant) {
    LoopReal r;
    if (is_float(inst.dtype)) {
      r.value = round_to(inst.dtype, inst.value);
    } else {
      r.integer = static_cast<int64_t>(round_to(inst.dtype, inst.value));
    }
    return r;
  }
  if (inst.op == LoopOp::select) {
    if (std::isinf(a.error)) return anything();
    const int chosen = a.integer ? 1 : 2;
    return types[chosen] == inst.dtype ? args[chosen]
                                       : finish_op(inst.dtype, args[chosen], LoopRounding::exact);
  }
  if (std::isinf(a.error) || std::isinf(b.error) || std::isinf(c.error)) return anything();
  switch (inst.op) {
    case LoopOp::convert:
      return convert_real(types[0], inst.dtype, a);
    case LoopOp::eq:
    case LoopOp::ne:
    case LoopOp::lt:
    case LoopOp::le:
    case LoopOp::gt:
    case LoopOp::ge:
      return compare(inst.op, is_float(types[0]), a, b);
    case LoopOp::logical_not: {
      const LoopReal bit = convert_real(types[0], DType::boolean, a);
      return std::isinf(bit.error) ? bit : integer(!bit.integer);
    }
    case LoopOp::logical_and:
    case LoopOp::logical_or: {
      const LoopReal x = convert_real(types[0], DType::boolean, a);
      const LoopReal y = convert_real(types[1], DType::boolean, b);
      if (std::isinf(x.error) || std::isinf(y.error)) return anything();
      return integer(inst.op == LoopOp::logical_and ? x.integer & y.integer
                                                    : x.integer | y.integer);
    }
    default:
      break;
  }
  if (is_float(inst.dtype)) return evaluate_float(inst, a, b, model);
  return evaluate_int(inst, a, b);
}

}  // namespace espalier::plan
