// SPDX-License-Identifier: Apache-2.0
#include "espalier/base/error.h"
#include "espalier/ir/shape_rules.h"

namespace espalier::ir {
namespace {

void check_vector(const OpUse& use, size_t operand, std::string_view what) {
  const TensorType& x = use.inputs[0];
  const TensorType& v = use.inputs[operand];
  ESPALIER_CHECK(x.shape.rank() > 0 && v.shape.rank() == 1 &&
                     v.shape[0] == x.shape[x.shape.rank() - 1] && is_float(x.dtype) &&
                     v.dtype == x.dtype,
                 ErrorKind::user, name(use.op), "{} {} does not fit the last axis of {}", what,
                 v.str(), x.str());
}

/// Checks the optional operands from `next` on: key mask, segments, seed, step and the index of the
/// first element that is drawn; and that the probabilities [batch, heads, queries, keys] are a
/// piece of the whole ones.
void check_attention_extras(const OpUse& use, size_t next) {
  const Shape& q = use.inputs[0].shape;
  const Shape& k = use.inputs[1].shape;
  const auto take = [&](std::string_view what, const TensorType& want) {
    ESPALIER_CHECK(next < use.inputs.size() && use.inputs[next] == want, ErrorKind::user,
                   name(use.op), "{} must be {}, got {}", what, want.str(),
                   next < use.inputs.size() ? use.inputs[next].str() : "nothing");
    ++next;
  };
  if (use.attrs.integer_or(Attr::key_mask, 0) != 0) {
    take("the key mask", {DType::boolean, {k[0], k[1]}});
  }
  if (use.attrs.integer_or(Attr::segments, 0) != 0) {
    take("query segments", {DType::i32, {q[0], q[1]}});
    take("key segments", {DType::i32, {k[0], k[1]}});
  }
  const double rate = use.attrs.real_or(Attr::rate, 0.0);
  ESPALIER_CHECK(rate >= 0.0 && rate < 1.0, ErrorKind::user, name(use.op),
                 "dropout rate {} is outside [0, 1)", rate);
  if (rate > 0.0) {
    ESPALIER_CHECK(use.attrs.has(Attr::id), ErrorKind::user, name(use.op),
                   "dropout needs a random stream (attribute id)");
    take("the seed", {DType::i64, {}});
    take("the step", {DType::i64, {}});
    if (next < use.inputs.size()) take("the first element", {DType::i64, {}});
  }
  ESPALIER_CHECK(next == use.inputs.size(), ErrorKind::user, name(use.op),
                 "{} operands, its attributes say {}", use.inputs.size(), next);
  check_piece(use, {q[0], q[2], q[1], k[1]});
}

void check_qkv(const OpUse& use) {
  const TensorType& q = use.inputs[0];
  const TensorType& k = use.inputs[1];
  const TensorType& v = use.inputs[2];
  ESPALIER_CHECK(q.shape.rank() == 4 && k.shape.rank() == 4 && is_float(q.dtype) &&
                     q.dtype == k.dtype && k == v,
                 ErrorKind::user, name(use.op),
                 "q, k, v are [batch, seq, heads, head_dim] of one type: {}, {}, {}", q.str(),
                 k.str(), v.str());
  ESPALIER_CHECK(q.shape[0] == k.shape[0] && q.shape[3] == k.shape[3], ErrorKind::user,
                 name(use.op), "batch and head size of {} and {} differ", q.str(), k.str());
  ESPALIER_CHECK(k.shape[2] > 0 && q.shape[2] % k.shape[2] == 0, ErrorKind::user, name(use.op),
                 "{} query heads are no multiple of {} key heads", q.shape[2], k.shape[2]);
}

}  // namespace

Types layer_norm_rule(const OpUse& use) {
  check_vector(use, 1, "weight");
  check_vector(use, 2, "bias");
  return {use.inputs[0]};
}

Types rms_norm_rule(const OpUse& use) {
  check_vector(use, 1, "weight");
  return {use.inputs[0]};
}

Types softmax_rule(const OpUse& use) {
  ESPALIER_CHECK(use.inputs[0].shape.rank() > 0, ErrorKind::user, name(use.op),
                 "takes at least one axis, got {}", use.inputs[0].str());
  return float_rule(use);
}

Types cross_entropy_rule(const OpUse& use) {
  const TensorType& logits = use.inputs[0];
  const TensorType& labels = use.inputs[1];
  Shape rows;
  for (int64_t i = 0; i + 1 < logits.shape.rank(); ++i) rows.push_back(logits.shape[i]);
  ESPALIER_CHECK(logits.shape.rank() > 0 && rows == labels.shape && is_float(logits.dtype) &&
                     !is_float(labels.dtype) && labels.dtype != DType::boolean,
                 ErrorKind::user, name(use.op), "labels {} are not one integer a row of logits {}",
                 labels.str(), logits.str());
  return {{logits.dtype, rows}};
}

Types attention_rule(const OpUse& use) {
  check_qkv(use);
  check_attention_extras(use, 3);
  const TensorType& q = use.inputs[0];
  const DType out = use.attrs.has(Attr::dtype) ? use.attrs.dtype(Attr::dtype) : q.dtype;
  const DType statistics = q.dtype == DType::f64 ? DType::f64 : DType::f32;
  return {{out, q.shape}, {statistics, {q.shape[0], q.shape[2], q.shape[1]}}};
}

Types attention_grad_rule(const OpUse& use) {
  check_qkv(use);
  const TensorType& q = use.inputs[0];
  const TensorType& out = use.inputs[3];
  const TensorType& lse = use.inputs[4];
  const TensorType& grad_out = use.inputs[5];
  ESPALIER_CHECK(out.shape == q.shape && grad_out.shape == q.shape, ErrorKind::user, name(use.op),
                 "out {} and its gradient {} have the shape of q {}", out.str(), grad_out.str(),
                 q.str());
  ESPALIER_CHECK(lse.shape == (Shape{q.shape[0], q.shape[2], q.shape[1]}), ErrorKind::user,
                 name(use.op), "log-sum-exp {} is not [batch, heads, seq] of {}", lse.str(),
                 q.str());
  check_attention_extras(use, 6);
  return {q, use.inputs[1], use.inputs[2]};
}

}  // namespace espalier::ir
