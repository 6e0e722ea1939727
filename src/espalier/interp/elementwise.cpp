// SPDX-License-Identifier: Apache-2.0
// Leaves and ops that map elements to elements.
#include <cmath>

#include "espalier/base/rng.h"
#include "espalier/interp/kernels.h"

namespace espalier::interp {
namespace {

using ir::Attr;
using ir::Op;

std::vector<Elements> constant(const Call& call) {
  return {
      Elements(static_cast<size_t>(call.out().shape.numel()), call.node.attrs.real(Attr::value))};
}

std::vector<Elements> iota(const Call& call) {
  std::vector<int64_t> strides(static_cast<size_t>(call.out().shape.rank()), 0);
  strides[static_cast<size_t>(call.node.attrs.integer(Attr::axis))] = 1;
  const std::vector<size_t> index = offsets(call.out().shape.dims(), strides);
  return {Elements(index.begin(), index.end())};
}

std::vector<Elements> random_uniform(const Call& call) {
  const auto word = [](double x) { return static_cast<uint64_t>(static_cast<int64_t>(x)); };
  const RngKey key = rng_key(word(call.data(0)[0]), word(call.data(1)[0]),
                             static_cast<uint64_t>(call.node.attrs.integer(Attr::id)));
  Elements out(static_cast<size_t>(call.out().shape.numel()));
  const uint64_t first = call.node.inputs.size() > 2 ? word(call.data(2)[0]) : 0;
  const std::optional<shard::Region> piece = piece_of(call);
  if (!piece) {
    for (size_t i = 0; i < out.size(); ++i) out[i] = rng_uniform(key, first + i);
    return {std::move(out)};
  }
  const std::vector<int64_t> strides = piece->view.strides();
  int64_t base = 0;
  for (size_t d = 0; d < strides.size(); ++d) base += piece->first[d] * strides[d];
  const std::vector<size_t> index = offsets(piece->size.dims(), strides, base);
  for (size_t i = 0; i < out.size(); ++i) out[i] = rng_uniform(key, first + index[i]);
  return {std::move(out)};
}

template <auto kFunction>
std::vector<Elements> unary(const Call& call) {
  Elements out = call.data(0);
  for (double& x : out) x = kFunction(x);
  return {std::move(out)};
}

template <auto kFunction>
std::vector<Elements> binary(const Call& call) {
  Elements out = call.data(0);
  const Elements& rhs = call.data(1);
  for (size_t i = 0; i < out.size(); ++i) out[i] = kFunction(out[i], rhs[i]);
  return {std::move(out)};
}

std::vector<Elements> select(const Call& call) {
  Elements out = call.data(1);
  for (size_t i = 0; i < out.size(); ++i) {
    if (call.data(0)[i] == 0.0) out[i] = call.data(2)[i];
  }
  return {std::move(out)};
}

/// A NaN on either side gives NaN.
double larger(double a, double b) { return a > b || std::isnan(a) ? a : b; }
double smaller(double a, double b) { return a < b || std::isnan(a) ? a : b; }
/// Integer quotients are cut when the result is rounded to its type; n / 0 is 0 there.
double quotient(double a, double b) { return a / b; }

std::vector<Elements> divide(const Call& call) {
  if (is_float(call.out().dtype)) return binary<quotient>(call);
  return binary<[](double a, double b) { return b == 0.0 ? 0.0 : std::trunc(a / b); }>(call);
}

}  // namespace

std::vector<KernelRow> elementwise_kernels() {
  return {
      {Op::constant, constant},
      {Op::iota, iota},
      {Op::random_uniform, random_uniform},

      {Op::convert, unary<[](double x) { return x; }>},
      {Op::neg, unary<[](double x) { return -x; }>},
      {Op::abs, unary<[](double x) { return std::abs(x); }>},
      {Op::exp, unary<[](double x) { return std::exp(x); }>},
      {Op::log, unary<[](double x) { return std::log(x); }>},
      {Op::sqrt, unary<[](double x) { return std::sqrt(x); }>},
      {Op::rsqrt, unary<[](double x) { return 1.0 / std::sqrt(x); }>},
      {Op::tanh, unary<[](double x) { return std::tanh(x); }>},
      {Op::erf, unary<[](double x) { return std::erf(x); }>},
      {Op::sin, unary<[](double x) { return std::sin(x); }>},
      {Op::cos, unary<[](double x) { return std::cos(x); }>},
      {Op::floor, unary<[](double x) { return std::floor(x); }>},
      {Op::logical_not, unary<[](double x) { return x == 0.0 ? 1.0 : 0.0; }>},
      {Op::stop_gradient, unary<[](double x) { return x; }>},

      {Op::add, binary<[](double a, double b) { return a + b; }>},
      {Op::sub, binary<[](double a, double b) { return a - b; }>},
      {Op::mul, binary<[](double a, double b) { return a * b; }>},
      {Op::div, divide},
      {Op::max, binary<larger>},
      {Op::min, binary<smaller>},
      {Op::pow, binary<[](double a, double b) { return std::pow(a, b); }>},
      {Op::eq, binary<[](double a, double b) { return a == b ? 1.0 : 0.0; }>},
      {Op::ne, binary<[](double a, double b) { return a != b ? 1.0 : 0.0; }>},
      {Op::lt, binary<[](double a, double b) { return a < b ? 1.0 : 0.0; }>},
      {Op::le, binary<[](double a, double b) { return a <= b ? 1.0 : 0.0; }>},
      {Op::gt, binary<[](double a, double b) { return (a > b) ? 1.0 : 0.0; }>},
      {Op::ge, binary<[](double a, double b) { return (a >= b) ? 1.0 : 0.0; }>},
      {Op::logical_and, binary<[](double a, double b) { return a * b; }>},
      {Op::logical_or, binary<[](double a, double b) { return a + b - a * b; }>},
      {Op::select, select},
  };
}

}  // namespace espalier::interp
