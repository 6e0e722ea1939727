// SPDX-License-Identifier: Apache-2.0
// Tensor: a value of a graph under construction, with the operations that add nodes.
//
// Shapes of binary operands broadcast from the right as in NumPy: missing leading axes and axes of
// size 1 are expanded with explicit broadcast nodes. Dtypes never promote silently.
#pragma once

#include <optional>
#include <vector>

#include "espalier/ir/builder.h"

namespace espalier {

class Tensor {
 public:
  Tensor() = default;
  Tensor(ir::Builder& builder, ir::Value value) : builder_(&builder), value_(value) {}

  bool defined() const { return builder_ != nullptr; }
  ir::Builder& builder() const { return *builder_; }
  ir::Value value() const { return value_; }
  const ir::TensorType& type() const { return builder_->type(value_); }
  const Shape& shape() const { return type().shape; }
  DType dtype() const { return type().dtype; }
  /// Size of an axis; negative axes count from the end.
  int64_t size(int64_t axis) const;
  int64_t rank() const { return shape().rank(); }

 private:
  ir::Builder* builder_ = nullptr;
  ir::Value value_;
};

/// A constant of x's dtype that broadcasts to its shape.
Tensor constant_like(Tensor x, double value);
Tensor constant(ir::Builder& builder, double value, DType dtype = DType::f32, Shape shape = {});
/// Integers 0, 1, ... along `axis`.
Tensor iota(ir::Builder& builder, DType dtype, Shape shape, int64_t axis);

Tensor operator+(Tensor a, Tensor b);
Tensor operator-(Tensor a, Tensor b);
Tensor operator*(Tensor a, Tensor b);
Tensor operator/(Tensor a, Tensor b);
Tensor operator-(Tensor a);
Tensor operator+(Tensor a, double b);
Tensor operator-(Tensor a, double b);
Tensor operator*(Tensor a, double b);
Tensor operator/(Tensor a, double b);
Tensor operator+(double a, Tensor b);
Tensor operator-(double a, Tensor b);
Tensor operator*(double a, Tensor b);
Tensor operator/(double a, Tensor b);

Tensor maximum(Tensor a, Tensor b);
Tensor minimum(Tensor a, Tensor b);
Tensor pow(Tensor a, Tensor b);
/// op is one of eq, ne, lt, le, gt, ge.
Tensor compare(ir::Op op, Tensor a, Tensor b);
Tensor logical_and(Tensor a, Tensor b);
Tensor logical_or(Tensor a, Tensor b);
Tensor logical_not(Tensor a);
/// condition ? a : b, elementwise; all three broadcast.
Tensor select(Tensor condition, Tensor a, Tensor b);

Tensor unary(ir::Op op, Tensor x);
Tensor exp(Tensor x);
Tensor log(Tensor x);
Tensor sqrt(Tensor x);
Tensor rsqrt(Tensor x);
Tensor tanh(Tensor x);
Tensor erf(Tensor x);
Tensor abs(Tensor x);
Tensor convert(Tensor x, DType dtype);
Tensor stop_gradient(Tensor x);
/// max(x, 0)
Tensor relu(Tensor x);
/// x * (1 + erf(x / sqrt 2)) / 2 (Hendrycks and Gimpel, arXiv 1606.08415)
Tensor gelu(Tensor x);
/// The tanh approximation of the same paper.
Tensor gelu_tanh(Tensor x);
/// x / (1 + exp(-x)) (Elfwing et al., arXiv 1702.03118).
Tensor silu(Tensor x);

/// Operand axis i becomes result axis axes[i].
Tensor broadcast(Tensor x, Shape shape, std::vector<int64_t> axes);
/// NumPy broadcasting to a larger shape.
Tensor broadcast_to(Tensor x, const Shape& shape);
/// One size may be -1.
Tensor reshape(Tensor x, Shape shape);
Tensor transpose(Tensor x, std::vector<int64_t> permutation);
/// Elements [start, limit) of one axis.
Tensor slice(Tensor x, int64_t axis, int64_t start, int64_t limit);
Tensor concat(const std::vector<Tensor>& parts, int64_t axis);
/// Adds `low` and `high` elements of `value` at the ends of one axis.
Tensor pad(Tensor x, int64_t axis, int64_t low, int64_t high, double value = 0.0);

/// Sums over axes (negative count from the end); the axes are dropped, or kept with size 1.
Tensor reduce_sum(Tensor x, std::vector<int64_t> axes, bool keep = false);
Tensor reduce_max(Tensor x, std::vector<int64_t> axes, bool keep = false);
Tensor mean(Tensor x, std::vector<int64_t> axes, bool keep = false);

struct DotDims {
  std::vector<int64_t> lhs_batch, rhs_batch, lhs_contract, rhs_contract;
};
/// Result axes: batch, free axes of lhs, free axes of rhs.
Tensor dot(Tensor lhs, Tensor rhs, const DotDims& dims, std::optional<DType> dtype = {});
/// x [..., in] times weight [out, in] transposed -> [..., out].
Tensor linear(Tensor x, Tensor weight);

/// table [V, D], indices [...] of an integer type -> [..., D].
Tensor gather(Tensor table, Tensor indices);
/// Uniform f32 in [0, 1), a function of (seed, step, stream, element index); see base/rng.h.
/// Indices count from `first` (i64 scalar), or from 0 where that is undefined.
Tensor random_uniform(Tensor seed, Tensor step, Shape shape, int64_t stream, Tensor first = {});

/// Composite ops over the last axis.
Tensor layer_norm(Tensor x, Tensor weight, Tensor bias, double epsilon);
Tensor rms_norm(Tensor x, Tensor weight, double epsilon);
Tensor softmax(Tensor x);
/// logits [..., V], labels [...] -> loss of each position [...]; labels outside [0, V) give 0.
Tensor softmax_cross_entropy(Tensor logits, Tensor labels);

/// Seed and step of the run, i64 scalars: what every random draw starts from. Where the tensors of
/// a graph are part number `part` (i64 scalar) of a batch cut along the first axis, draws are those
/// of that part of the whole batch.
struct RngState {
  Tensor seed, step;
  Tensor part = {};
  /// The index in the whole batch of the first of `count` elements; undefined: 0.
  Tensor first(int64_t count) const;
};
/// Zeroes elements with probability rate and scales the others by 1/(1-rate). rate 0 is x itself.
Tensor dropout(Tensor x, double rate, const RngState& rng);

struct AttentionOptions {
  bool causal = false;
  double scale = 0.0;  // 0: 1/sqrt(head_dim)
  double dropout = 0.0;
  Tensor key_mask;    // bool [batch, seq_k], true = visible
  Tensor segments_q;  // i32 [batch, seq]; a query sees keys of its own segment only
  Tensor segments_k;
  RngState rng;  // needed with dropout
};
/// q [batch, seq_q, heads, head_dim], k and v [batch, seq_k, kv_heads, head_dim] -> like q.
/// Causal: query i sees keys up to i + seq_k - seq_q. A query that sees nothing gives zeros.
Tensor scaled_dot_product_attention(Tensor q, Tensor k, Tensor v, const AttentionOptions& options);

}  // namespace espalier
