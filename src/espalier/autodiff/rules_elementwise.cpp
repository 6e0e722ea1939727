// SPDX-License-Identifier: Apache-2.0
#include <numbers>

#include "espalier/autodiff/rules.h"

namespace espalier::autodiff {

std::optional<double> splat(const Tensor& x) {
  const ir::Node& node = x.builder().node(x.value());
  if (node.op != ir::Op::constant) return std::nullopt;
  return node.attrs.real(ir::Attr::value);
}

Tensor times(Tensor a, Tensor b) {
  const std::optional<double> x = splat(a);
  const std::optional<double> y = splat(b);
  if (x && y) return constant_like(a, *x * *y);
  if (x == 1.0) return b;
  if (y == 1.0) return a;
  return a * b;
}

Tensor spread(Tensor x, Shape shape, std::vector<int64_t> axes) {
  const std::optional<double> value = splat(x);
  if (value) return constant(x.builder(), *value, x.dtype(), shape);
  return broadcast(x, std::move(shape), std::move(axes));
}

namespace {

using ir::Op;

Tensor zeros_like(Tensor x) { return constant_like(x, 0.0); }
Tensor minus(Tensor x) {
  const std::optional<double> value = splat(x);
  return value ? constant_like(x, -*value) : -x;
}
/// condition ? x : 0
Tensor where(Tensor condition, Tensor x) { return select(condition, x, zeros_like(x)); }

/// d f(x) = g * kSlope(x, y), with y = f(x).
template <auto kSlope>
Grads slope(const Use& u) {
  return {times(u.g(), kSlope(u.in[0], u.out[0]))};
}

Grads convert_rule(const Use& u) { return {convert(u.g(), u.in[0].dtype())}; }
Grads neg_rule(const Use& u) { return {minus(u.g())}; }
Grads abs_rule(const Use& u) {
  const Tensor zero = zeros_like(u.in[0]);
  const Tensor below = select(compare(Op::lt, u.in[0], zero), minus(u.g()), zero);
  return {select(compare(Op::gt, u.in[0], zero), u.g(), below)};
}
Grads log_rule(const Use& u) { return {u.g() / u.in[0]}; }

Grads add_rule(const Use& u) { return {u.g(), u.g()}; }
Grads sub_rule(const Use& u) { return {u.g(), u.needs[1] ? minus(u.g()) : Tensor()}; }
Grads mul_rule(const Use& u) {
  return {u.needs[0] ? times(u.g(), u.in[1]) : Tensor(),
          u.needs[1] ? times(u.g(), u.in[0]) : Tensor()};
}
Grads div_rule(const Use& u) {
  const Tensor share = u.g() / u.in[1];
  return {share, u.needs[1] ? minus(share * u.out[0]) : Tensor()};
}

/// To the first operand where kCompare holds, to the second elsewhere.
template <Op kCompare>
Grads choice_rule(const Use& u) {
  const Tensor first = compare(kCompare, u.in[0], u.in[1]);
  const Tensor zero = zeros_like(u.g());
  return {u.needs[0] ? select(first, u.g(), zero) : Tensor(),
          u.needs[1] ? select(first, zero, u.g()) : Tensor()};
}

/// d a^b = b a^(b-1) da + a^b log(a) db. Where a is not positive, b gets nothing; where b is 0, so
/// that a^(b-1) may be infinite, a gets nothing.
Grads pow_rule(const Use& u) {
  const Tensor& a = u.in[0];
  const Tensor& b = u.in[1];
  Grads grads(2);
  if (u.needs[0]) {
    const Tensor smooth = compare(Op::ne, b, zeros_like(b));
    grads[0] = times(u.g(), where(smooth, b * pow(a, b - 1.0)));
  }
  if (u.needs[1]) {
    const Tensor positive = compare(Op::gt, a, zeros_like(a));
    const Tensor safe = select(positive, a, constant_like(a, 1.0));
    grads[1] = times(u.g(), u.out[0] * log(safe));
  }
  return grads;
}

Grads select_rule(const Use& u) {
  return {Tensor(), u.needs[1] ? where(u.in[0], u.g()) : Tensor(),
          u.needs[2] ? select(u.in[0], zeros_like(u.g()), u.g()) : Tensor()};
}

}  // namespace

std::vector<RuleRow> elementwise_rules() {
  return {
      {Op::convert, convert_rule},
      {Op::neg, neg_rule},
      {Op::abs, abs_rule},
      {Op::exp, slope<[](Tensor, Tensor y) { return y; }>},
      {Op::log, log_rule},
      {Op::sqrt, slope<[](Tensor, Tensor y) { return 0.5 / y; }>},
      {Op::rsqrt, slope<[](Tensor, Tensor y) { return y * y * y * -0.5; }>},
      {Op::tanh, slope<[](Tensor, Tensor y) { return 1.0 - y * y; }>},
      {Op::erf,
       slope<[](Tensor x, Tensor) { return exp(-(x * x)) * (2.0 * std::numbers::inv_sqrtpi); }>},
      {Op::sin, slope<[](Tensor x, Tensor) { return unary(Op::cos, x); }>},
      {Op::cos, slope<[](Tensor x, Tensor) { return -unary(Op::sin, x); }>},
      {Op::add, add_rule},
      {Op::sub, sub_rule},
      {Op::mul, mul_rule},
      {Op::div, div_rule},
      {Op::max, choice_rule<Op::gt>},
      {Op::min, choice_rule<Op::lt>},
      {Op::pow, pow_rule},
      {Op::select, select_rule},
  };
}

}  // namespace espalier::autodiff
