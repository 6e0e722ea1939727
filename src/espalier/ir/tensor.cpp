// SPDX-License-Identifier: Apache-2.0
#include "espalier/ir/tensor.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "espalier/base/error.h"

namespace espalier {
namespace {

using ir::Attr;
using ir::Attrs;
using ir::Op;

Tensor add_node(Op op, std::initializer_list<Tensor> inputs, Attrs attrs = {}) {
  std::vector<ir::Value> values;
  for (const Tensor& t : inputs) values.push_back(t.value());
  ir::Builder& builder = inputs.begin()->builder();
  return {builder, builder.add(op, std::move(values), std::move(attrs))};
}

int64_t resolve(int64_t axis, int64_t rank) { return axis < 0 ? axis + rank : axis; }

std::vector<int64_t> resolve(std::vector<int64_t> axes, int64_t rank) {
  for (int64_t& axis : axes) axis = resolve(axis, rank);
  std::sort(axes.begin(), axes.end());
  return axes;
}

Shape joint_shape(std::string_view what, const Tensor& a, const Tensor& b) {
  const int64_t rank = std::max(a.rank(), b.rank());
  Shape shape(std::vector<int64_t>(static_cast<size_t>(rank), 1));
  for (int64_t i = 1; i <= rank; ++i) {
    const int64_t x = i <= a.rank() ? a.size(-i) : 1;
    const int64_t y = i <= b.rank() ? b.size(-i) : 1;
    ESPALIER_CHECK(x == y || x == 1 || y == 1, ErrorKind::user, what,
                   "shapes do not broadcast: lhs {}, rhs {}", a.type().str(), b.type().str());
    shape[rank - i] = x == 1 ? y : x;
  }
  return shape;
}

Tensor binary(Op op, Tensor a, Tensor b) {
  const Shape shape = joint_shape(name(op), a, b);
  return add_node(op, {broadcast_to(a, shape), broadcast_to(b, shape)});
}

Tensor reduce(Op op, Tensor x, std::vector<int64_t> axes, bool keep) {
  axes = resolve(std::move(axes), x.rank());
  Shape kept = x.shape();
  const Tensor reduced = add_node(op, {x}, {{Attr::axes, axes}});
  if (!keep) return reduced;
  for (int64_t axis : axes) kept[axis] = 1;
  return reshape(reduced, kept);
}

}  // namespace

int64_t Tensor::size(int64_t axis) const {
  const int64_t at = resolve(axis, rank());
  ESPALIER_CHECK(at >= 0 && at < rank(), ErrorKind::user, "tensor", "axis {} is outside {}", axis,
                 type().str());
  return shape()[at];
}

Tensor constant(ir::Builder& builder, double value, DType dtype, Shape shape) {
  return {builder, builder.constant(value, dtype, std::move(shape))};
}
Tensor constant_like(Tensor x, double value) {
  return constant(x.builder(), value, x.dtype(), x.shape());
}
Tensor iota(ir::Builder& builder, DType dtype, Shape shape, int64_t axis) {
  return {builder,
          builder.add(Op::iota, {},
                      {{Attr::axis, axis}, {Attr::dtype, dtype}, {Attr::shape, shape.dims()}})};
}

Tensor operator+(Tensor a, Tensor b) { return binary(Op::add, a, b); }
Tensor operator-(Tensor a, Tensor b) { return binary(Op::sub, a, b); }
Tensor operator*(Tensor a, Tensor b) { return binary(Op::mul, a, b); }
Tensor operator/(Tensor a, Tensor b) { return binary(Op::div, a, b); }
Tensor operator-(Tensor a) { return unary(Op::neg, a); }
Tensor operator+(Tensor a, double b) { return a + constant_like(a, b); }
Tensor operator-(Tensor a, double b) { return a - constant_like(a, b); }
Tensor operator*(Tensor a, double b) { return a * constant_like(a, b); }
Tensor operator/(Tensor a, double b) { return a / constant_like(a, b); }
Tensor operator+(double a, Tensor b) { return constant_like(b, a) + b; }
Tensor operator-(double a, Tensor b) { return constant_like(b, a) - b; }
Tensor operator*(double a, Tensor b) { return constant_like(b, a) * b; }
Tensor operator/(double a, Tensor b) { return constant_like(b, a) / b; }

Tensor maximum(Tensor a, Tensor b) { return binary(Op::max, a, b); }
Tensor minimum(Tensor a, Tensor b) { return binary(Op::min, a, b); }
Tensor pow(Tensor a, Tensor b) { return binary(Op::pow, a, b); }
Tensor compare(ir::Op op, Tensor a, Tensor b) { return binary(op, a, b); }
Tensor logical_and(Tensor a, Tensor b) { return binary(Op::logical_and, a, b); }
Tensor logical_or(Tensor a, Tensor b) { return binary(Op::logical_or, a, b); }
Tensor logical_not(Tensor a) { return unary(Op::logical_not, a); }

Tensor select(Tensor condition, Tensor a, Tensor b) {
  const Shape values = joint_shape("select", a, b);
  const Shape shape = joint_shape("select", broadcast_to(a, values), condition);
  return add_node(Op::select,
                  {broadcast_to(condition, shape), broadcast_to(a, shape), broadcast_to(b, shape)});
}

Tensor unary(ir::Op op, Tensor x) { return add_node(op, {x}); }
Tensor exp(Tensor x) { return unary(Op::exp, x); }
Tensor log(Tensor x) { return unary(Op::log, x); }
Tensor sqrt(Tensor x) { return unary(Op::sqrt, x); }
Tensor rsqrt(Tensor x) { return unary(Op::rsqrt, x); }
Tensor tanh(Tensor x) { return unary(Op::tanh, x); }
Tensor erf(Tensor x) { return unary(Op::erf, x); }
Tensor abs(Tensor x) { return unary(Op::abs, x); }
Tensor stop_gradient(Tensor x) { return unary(Op::stop_gradient, x); }
Tensor convert(Tensor x, DType dtype) {
  return x.dtype() == dtype ? x : add_node(Op::convert, {x}, {{Attr::dtype, dtype}});
}
Tensor relu(Tensor x) { return maximum(x, constant_like(x, 0.0)); }
Tensor gelu(Tensor x) { return x * (1.0 + erf(x * (1.0 / std::numbers::sqrt2))) * 0.5; }
Tensor gelu_tanh(Tensor x) {
  const double c = std::sqrt(2.0 / std::numbers::pi);
  return x * (1.0 + tanh((x + x * x * x * 0.044715) * c)) * 0.5;
}
Tensor silu(Tensor x) {
  // Beyond -80 the result is 0 to f32, and exp and its square stay finite for the gradient.
  return x / (1.0 + exp(minimum(-x, constant_like(x, 80.0))));
}

Tensor broadcast(Tensor x, Shape shape, std::vector<int64_t> axes) {
  if (shape == x.shape()) return x;
  return add_node(Op::broadcast, {x}, {{Attr::shape, shape.dims()}, {Attr::axes, std::move(axes)}});
}

Tensor broadcast_to(Tensor x, const Shape& shape) {
  if (x.shape() == shape) return x;
  const ir::Node& node = x.builder().node(x.value());
  if (node.op == Op::constant) {
    return constant(x.builder(), node.attrs.real(Attr::value), x.dtype(), shape);
  }
  // Axes of size 1 that grow are dropped first, because broadcast axes must keep their size.
  const int64_t lead = shape.rank() - x.rank();
  ESPALIER_CHECK(lead >= 0, ErrorKind::user, "broadcast", "{} has more axes than {}",
                 x.type().str(), shape.str());
  Shape kept;
  std::vector<int64_t> axes;
  for (int64_t i = 0; i < x.rank(); ++i) {
    if (x.shape()[i] == 1 && shape[lead + i] != 1) continue;
    kept.push_back(x.shape()[i]);
    axes.push_back(lead + i);
  }
  return broadcast(reshape(x, kept), shape, axes);
}

Tensor reshape(Tensor x, Shape shape) {
  int64_t known = 1;
  int64_t open = -1;
  for (int64_t i = 0; i < shape.rank(); ++i) {
    if (shape[i] == -1) {
      ESPALIER_CHECK(open < 0, ErrorKind::user, "reshape", "two open sizes in {}", shape.str());
      open = i;
    } else {
      known *= shape[i];
    }
  }
  if (open >= 0) shape[open] = known == 0 ? 0 : x.shape().numel() / known;
  if (shape == x.shape()) return x;
  return add_node(Op::reshape, {x}, {{Attr::shape, shape.dims()}});
}

Tensor transpose(Tensor x, std::vector<int64_t> permutation) {
  return add_node(Op::transpose, {x}, {{Attr::permutation, std::move(permutation)}});
}

Tensor slice(Tensor x, int64_t axis, int64_t start, int64_t limit) {
  axis = resolve(axis, x.rank());
  std::vector<int64_t> starts(static_cast<size_t>(x.rank()), 0);
  std::vector<int64_t> limits = x.shape().dims();
  starts.at(static_cast<size_t>(axis)) = start;
  limits.at(static_cast<size_t>(axis)) = limit;
  if (limits == x.shape().dims() && start == 0) return x;
  return add_node(Op::slice, {x}, {{Attr::starts, starts}, {Attr::limits, limits}});
}

Tensor concat(const std::vector<Tensor>& parts, int64_t axis) {
  std::vector<ir::Value> values;
  values.reserve(parts.size());
  for (const Tensor& t : parts) values.push_back(t.value());
  ir::Builder& builder = parts.at(0).builder();
  return {builder, builder.add(Op::concat, std::move(values),
                               {{Attr::axis, resolve(axis, parts[0].rank())}})};
}

Tensor pad(Tensor x, int64_t axis, int64_t low, int64_t high, double value) {
  std::vector<int64_t> lows(static_cast<size_t>(x.rank()), 0);
  std::vector<int64_t> highs = lows;
  lows.at(static_cast<size_t>(resolve(axis, x.rank()))) = low;
  highs.at(static_cast<size_t>(resolve(axis, x.rank()))) = high;
  return add_node(Op::pad, {x}, {{Attr::low, lows}, {Attr::high, highs}, {Attr::value, value}});
}

Tensor reduce_sum(Tensor x, std::vector<int64_t> axes, bool keep) {
  return reduce(Op::reduce_sum, x, std::move(axes), keep);
}
Tensor reduce_max(Tensor x, std::vector<int64_t> axes, bool keep) {
  return reduce(Op::reduce_max, x, std::move(axes), keep);
}
Tensor mean(Tensor x, std::vector<int64_t> axes, bool keep) {
  int64_t count = 1;
  for (int64_t axis : axes) count *= x.size(axis);
  return reduce_sum(x, std::move(axes), keep) * (1.0 / static_cast<double>(count));
}

Tensor dot(Tensor lhs, Tensor rhs, const DotDims& dims, std::optional<DType> dtype) {
  Attrs attrs{{Attr::lhs_contract, dims.lhs_contract}, {Attr::rhs_contract, dims.rhs_contract}};
  if (!dims.lhs_batch.empty()) {
    attrs.set(Attr::lhs_batch, dims.lhs_batch);
    attrs.set(Attr::rhs_batch, dims.rhs_batch);
  }
  if (dtype && *dtype != lhs.dtype()) attrs.set(Attr::dtype, *dtype);
  return add_node(Op::dot, {lhs, rhs}, std::move(attrs));
}

Tensor linear(Tensor x, Tensor weight) {
  return dot(x, weight, {.lhs_contract = {x.rank() - 1}, .rhs_contract = {1}});
}

Tensor gather(Tensor table, Tensor indices) { return add_node(Op::gather, {table, indices}); }

Tensor random_uniform(Tensor seed, Tensor step, Shape shape, int64_t stream, Tensor first) {
  const Attrs attrs{{Attr::shape, shape.dims()}, {Attr::id, stream}};
  if (!first.defined()) return add_node(Op::random_uniform, {seed, step}, attrs);
  return add_node(Op::random_uniform, {seed, step, first}, attrs);
}

Tensor RngState::first(int64_t count) const {
  return part.defined() ? part * static_cast<double>(count) : Tensor();
}

Tensor layer_norm(Tensor x, Tensor weight, Tensor bias, double epsilon) {
  return add_node(Op::layer_norm, {x, weight, bias}, {{Attr::epsilon, epsilon}});
}
Tensor rms_norm(Tensor x, Tensor weight, double epsilon) {
  return add_node(Op::rms_norm, {x, weight}, {{Attr::epsilon, epsilon}});
}
Tensor softmax(Tensor x) { return unary(Op::softmax, x); }
Tensor softmax_cross_entropy(Tensor logits, Tensor labels) {
  return add_node(Op::softmax_cross_entropy, {logits, labels});
}

Tensor dropout(Tensor x, double rate, const RngState& rng) {
  ESPALIER_CHECK(rate >= 0.0 && rate < 1.0, ErrorKind::user, "dropout", "rate {} is outside [0, 1)",
                 rate);
  if (rate == 0.0) return x;
  const Tensor u = random_uniform(rng.seed, rng.step, x.shape(), x.builder().random_stream(),
                                  rng.first(x.shape().numel()));
  // Draws are multiples of 2^-24: the threshold must be the same f32 in every evaluation.
  const Tensor keep = compare(Op::ge, u, constant_like(u, round_to(DType::f32, rate)));
  return select(keep, x * (1.0 / (1.0 - rate)), constant_like(x, 0.0));
}

Tensor scaled_dot_product_attention(Tensor q, Tensor k, Tensor v, const AttentionOptions& options) {
  std::vector<ir::Value> inputs{q.value(), k.value(), v.value()};
  Attrs attrs;
  const double scale =
      options.scale != 0.0 ? options.scale : 1.0 / std::sqrt(static_cast<double>(q.size(-1)));
  attrs.set(Attr::scale, scale);
  if (options.causal) attrs.set(Attr::causal, int64_t{1});
  if (options.key_mask.defined()) {
    attrs.set(Attr::key_mask, int64_t{1});
    inputs.push_back(options.key_mask.value());
  }
  if (options.segments_q.defined()) {
    attrs.set(Attr::segments, int64_t{1});
    inputs.push_back(options.segments_q.value());
    inputs.push_back(options.segments_k.value());
  }
  if (options.dropout > 0.0) {
    attrs.set(Attr::rate, options.dropout);
    attrs.set(Attr::id, q.builder().random_stream());
    inputs.push_back(options.rng.seed.value());
    inputs.push_back(options.rng.step.value());
    const Tensor first = options.rng.first(q.size(0) * q.size(2) * q.size(1) * k.size(1));
    if (first.defined()) inputs.push_back(first.value());
  }
  return {q.builder(), q.builder().add(Op::attention, std::move(inputs), std::move(attrs))};
}

}  // namespace espalier
