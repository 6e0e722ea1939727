// SPDX-License-Identifier: Apache-2.0
#include "espalier/ir/decompose.h"

#include <limits>
#include <numeric>

#include "espalier/base/error.h"
#include "espalier/ir/tensor.h"

namespace espalier::ir {
namespace {

/// Masked scores: so low that exp(score - max) is 0, finite so that score - max is never NaN.
constexpr double kMasked = -1e30;

DType wide(DType dtype) { return dtype == DType::f64 ? DType::f64 : DType::f32; }

/// One number a row [...] repeated along the last axis of `shape` [..., n].
Tensor over_rows(Tensor per_row, const Shape& shape) {
  std::vector<int64_t> axes(static_cast<size_t>(per_row.rank()));
  std::iota(axes.begin(), axes.end(), 0);
  return broadcast(per_row, shape, axes);
}

Tensor row_sum(Tensor x) { return reduce_sum(x, {-1}); }
/// The largest element of each row. A shift by it cancels out, so no gradient passes.
Tensor row_shift(Tensor x) { return stop_gradient(reduce_max(x, {-1})); }

/// mean = sum(x)/n; c = x - mean; y = c * rsqrt(sum(c*c)/n + eps) * weight + bias
/// (Ba, Kiros, Hinton, arXiv:1607.06450).
Tensor expand_layer_norm(Tensor x, Tensor weight, Tensor bias, double epsilon) {
  const double inverse_count = 1.0 / static_cast<double>(x.size(-1));
  const Tensor centred = x - over_rows(row_sum(x) * inverse_count, x.shape());
  const Tensor variance = row_sum(centred * centred) * inverse_count;
  return centred * over_rows(rsqrt(variance + epsilon), x.shape()) * weight + bias;
}

/// y = x * rsqrt(sum(x*x)/n + eps) * weight (Zhang, Sennrich, arXiv:1910.07467).
Tensor expand_rms_norm(Tensor x, Tensor weight, double epsilon) {
  const Tensor square = row_sum(x * x) * (1.0 / static_cast<double>(x.size(-1)));
  return x * over_rows(rsqrt(square + epsilon), x.shape()) * weight;
}

Tensor expand_softmax(Tensor x) {
  const Tensor e = exp(x - over_rows(row_shift(x), x.shape()));
  return e / over_rows(row_sum(e), x.shape());
}

/// log(sum(exp(c))) - c[label] with c = x - max(x). A label outside [0, n) gives 0.
Tensor expand_cross_entropy(Tensor x, Tensor labels) {
  const int64_t classes = x.size(-1);
  const bool always_inside = labels.dtype() == DType::u8 && classes >= 256;
  if (labels.dtype() == DType::u8) labels = convert(labels, DType::i32);
  const Tensor shifted = x - over_rows(row_shift(x), x.shape());
  const Tensor index = iota(x.builder(), labels.dtype(), x.shape(), x.rank() - 1);
  const Tensor hit = compare(Op::eq, index, over_rows(labels, x.shape()));
  const Tensor picked = row_sum(select(hit, shifted, constant_like(x, 0.0)));
  const Tensor loss = log(row_sum(exp(shifted))) - picked;
  if (always_inside) return loss;
  const Tensor inside =
      logical_and(compare(Op::ge, labels, constant_like(labels, 0.0)),
                  compare(Op::lt, labels, constant_like(labels, static_cast<double>(classes))));
  return select(inside, loss, constant_like(loss, 0.0));
}

/// Optional operands of an attention node, in order.
struct AttentionExtras {
  Tensor key_mask, segments_q, segments_k, seed, step, first;
};

AttentionExtras attention_extras(const Attrs& attrs, const std::vector<Tensor>& in) {
  AttentionExtras extras;
  size_t next = 3;
  if (attrs.integer_or(Attr::key_mask, 0) != 0) extras.key_mask = in[next++];
  if (attrs.integer_or(Attr::segments, 0) != 0) {
    extras.segments_q = in[next++];
    extras.segments_k = in[next++];
  }
  if (attrs.real_or(Attr::rate, 0.0) > 0.0) {
    extras.seed = in[next++];
    extras.step = in[next++];
    if (next < in.size()) extras.first = in[next];
  }
  return extras;
}

/// Which keys a query sees, broadcast to `shape` [B,H,Sq,Sk]; undefined when all.
Tensor visible_keys(const AttentionExtras& extras, bool causal, Builder& builder,
                    const Shape& shape) {
  Tensor visible;
  const auto also = [&](Tensor mask, std::vector<int64_t> axes) {
    const Tensor full = broadcast(mask, shape, std::move(axes));
    visible = visible.defined() ? logical_and(visible, full) : full;
  };
  if (causal) {
    const Shape plane{shape[2], shape[3]};
    const Tensor query = iota(builder, DType::i32, plane, 0);
    const Tensor key = iota(builder, DType::i32, plane, 1);
    const auto offset = static_cast<double>(shape[3] - shape[2]);
    also(compare(Op::le, key, offset == 0.0 ? query : query + offset), {2, 3});
  }
  if (extras.key_mask.defined()) also(extras.key_mask, {0, 3});
  if (extras.segments_q.defined()) {
    const Shape plane{shape[0], shape[2], shape[3]};
    also(compare(Op::eq, broadcast(extras.segments_q, plane, {0, 1}),
                 broadcast(extras.segments_k, plane, {0, 2})),
         {0, 2, 3});
  }
  return visible;
}

/// [B,S,Hk,D] -> [B,H,S,D], each key head serving H / Hk query heads.
Tensor heads_first(Tensor x, int64_t heads) {
  x = transpose(x, {0, 2, 1, 3});
  const Shape s = x.shape();
  if (s[1] == heads) return x;
  const Tensor grouped = broadcast(x, {s[0], s[1], heads / s[1], s[2], s[3]}, {0, 1, 3, 4});
  return reshape(grouped, {s[0], heads, s[2], s[3]});
}

/// softmax(scale q k^T, masked) v and the logarithm of the softmax denominator.
std::vector<Tensor> expand_attention(const std::vector<Tensor>& in, const Node& node) {
  const AttentionExtras extras = attention_extras(node.attrs, in);
  const bool causal = node.attrs.integer_or(Attr::causal, 0) != 0;
  const double rate = node.attrs.real_or(Attr::rate, 0.0);
  const DType type = in[0].dtype();
  const int64_t heads = in[0].size(2);
  const Tensor q = transpose(in[0], {0, 2, 1, 3});
  const Tensor k = heads_first(in[1], heads);
  const Tensor v = heads_first(in[2], heads);

  Tensor scores = dot(q, k, {{0, 1}, {0, 1}, {3}, {3}}, wide(type)) * node.attrs.real(Attr::scale);
  const Shape shape = scores.shape();
  const Tensor visible = visible_keys(extras, causal, q.builder(), shape);
  if (visible.defined()) scores = select(visible, scores, constant_like(scores, kMasked));
  const Tensor top = row_shift(scores);
  Tensor e = exp(scores - over_rows(top, shape));

  // A query that sees nothing has every score at kMasked and e = 1: make its sum 0, then divide
  // by 1.
  const bool may_see_nothing =
      extras.key_mask.defined() || extras.segments_q.defined() || (causal && shape[2] > shape[3]);
  if (may_see_nothing) e = select(visible, e, constant_like(e, 0.0));
  Tensor sum = row_sum(e);
  Tensor lse;
  if (may_see_nothing) {
    const Tensor sees = compare(Op::gt, sum, constant_like(sum, 0.0));
    sum = select(sees, sum, constant_like(sum, 1.0));
    const double nothing = -std::numeric_limits<double>::infinity();
    lse = select(sees, log(sum) + top, constant_like(sum, nothing));
  } else {
    lse = log(sum) + top;
  }
  Tensor p = e / over_rows(sum, shape);
  if (rate > 0.0) {
    Attrs draw{{Attr::shape, shape.dims()}, {Attr::id, node.attrs.integer(Attr::id)}};
    if (node.attrs.has(Attr::cut)) {
      draw.set(Attr::whole, node.attrs.integers(Attr::whole));
      draw.set(Attr::cut, node.attrs.text(Attr::cut));
    }
    Builder& out = q.builder();
    std::vector<Value> from{extras.seed.value(), extras.step.value()};
    if (extras.first.defined()) from.push_back(extras.first.value());
    const Tensor u(out, out.add(Op::random_uniform, std::move(from), std::move(draw)));
    const Tensor keep = compare(Op::ge, u, constant_like(u, round_to(DType::f32, rate)));
    p = select(keep, p * (1.0 / (1.0 - rate)), constant_like(p, 0.0));
  }
  const Tensor out = dot(convert(p, type), v, {{0, 1}, {0, 1}, {3}, {2}}, node.types[0].dtype);
  return {transpose(out, {0, 2, 1, 3}), lse};
}

std::vector<Tensor> expand(const Node& node, const std::vector<Tensor>& in) {
  if (node.op == Op::attention) return expand_attention(in, node);
  const DType type = in[0].dtype();
  const auto operand = [&](size_t i) { return convert(in[i], wide(type)); };
  const auto epsilon = [&] { return node.attrs.real(Attr::epsilon); };
  switch (node.op) {
    case Op::layer_norm:
      return {convert(expand_layer_norm(operand(0), operand(1), operand(2), epsilon()), type)};
    case Op::rms_norm:
      return {convert(expand_rms_norm(operand(0), operand(1), epsilon()), type)};
    case Op::softmax:
      return {convert(expand_softmax(operand(0)), type)};
    case Op::softmax_cross_entropy:
      return {convert(expand_cross_entropy(operand(0), in[1]), type)};
    default:
      fail(ErrorKind::internal, name(node.op), "has no decomposition");
  }
}

}  // namespace

std::vector<Value> decompose(Builder& builder, Node node, std::vector<Value> inputs) {
  std::vector<Tensor> in;
  in.reserve(inputs.size());
  for (Value v : inputs) in.emplace_back(builder, v);
  const Shared<std::string> outer = builder.scope();
  builder.set_scope(node.scope);
  std::vector<Value> results;
  for (const Tensor& t : expand(node, in)) results.push_back(t.value());
  builder.set_scope(outer);
  return results;
}

}  // namespace espalier::ir
