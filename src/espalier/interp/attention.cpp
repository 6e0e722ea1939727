// SPDX-License-Identifier: Apache-2.0
// Attention and its gradient, one query at a time. A query that sees no key gives zeros, and -inf
// as the logarithm of its softmax denominator.
#include <cmath>
#include <limits>
#include <optional>

#include "espalier/base/rng.h"
#include "espalier/interp/kernels.h"

namespace espalier::interp {
namespace {

using ir::Attr;
using ir::Op;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Sizes, options and optional operands; which keys are visible and which are dropped.
class Attention {
 public:
  /// Optional operands start at operand `next`.
  Attention(const Call& call, size_t next)
      : batch(call.shape(0)[0]),
        queries(call.shape(0)[1]),
        heads(call.shape(0)[2]),
        size(call.shape(0)[3]),
        keys(call.shape(1)[1]),
        key_heads(call.shape(1)[2]),
        scale(call.node.attrs.real(Attr::scale)),
        causal_(call.node.attrs.integer_or(Attr::causal, 0) != 0),
        rate_(call.node.attrs.real_or(Attr::rate, 0.0)) {
    const ir::Attrs& attrs = call.node.attrs;
    if (attrs.integer_or(Attr::key_mask, 0) != 0) key_mask_ = &call.data(next++);
    if (attrs.integer_or(Attr::segments, 0) != 0) {
      segments_q_ = &call.data(next++);
      segments_k_ = &call.data(next++);
    }
    if (rate_ > 0.0) {
      const auto word = [&](size_t i) {
        return static_cast<uint64_t>(static_cast<int64_t>(call.data(i)[0]));
      };
      key_ = rng_key(word(next), word(next + 1), static_cast<uint64_t>(attrs.integer(Attr::id)));
      whole_heads_ = heads;
      if (const auto piece = piece_of(call)) {
        whole_heads_ = attrs.integers(Attr::whole)[1];
        first_batch_ = piece->first[0];
        first_head_ = piece->first[1];
      }
      if (next + 2 < call.node.inputs.size()) first_ = word(next + 2);
    }
  }

  /// Offset of element 0 of query (b, i, h), and of the key that head h reads at (b, j).
  size_t query(int64_t b, int64_t i, int64_t h) const {
    return static_cast<size_t>(((b * queries + i) * heads + h) * size);
  }
  size_t key(int64_t b, int64_t j, int64_t h) const {
    return static_cast<size_t>(((b * keys + j) * key_heads + h / (heads / key_heads)) * size);
  }
  /// Offset of query (b, h, i) in the log-sum-exp.
  size_t row(int64_t b, int64_t h, int64_t i) const {
    return static_cast<size_t>((b * heads + h) * queries + i);
  }

  bool visible(int64_t b, int64_t i, int64_t j) const {
    const auto q = static_cast<size_t>(b * queries + i);
    const auto k = static_cast<size_t>(b * keys + j);
    if (causal_ && j > i + keys - queries) return false;
    if (key_mask_ != nullptr && (*key_mask_)[k] == 0.0) return false;
    return segments_q_ == nullptr || (*segments_q_)[q] == (*segments_k_)[k];
  }

  /// 0 for a dropped probability, 1 / (1 - rate) for a kept one.
  double dropout(int64_t b, int64_t h, int64_t i, int64_t j) const {
    if (!key_) return 1.0;
    const int64_t whole_row = ((first_batch_ + b) * whole_heads_ + first_head_ + h) * queries + i;
    const auto element = first_ + static_cast<uint64_t>(whole_row * keys + j);
    return rng_uniform(*key_, element) < static_cast<float>(rate_) ? 0.0 : 1.0 / (1.0 - rate_);
  }

  template <typename Visit>
  void each_query(const Visit& visit) const {
    for (int64_t b = 0; b < batch; ++b) {
      for (int64_t h = 0; h < heads; ++h) {
        for (int64_t i = 0; i < queries; ++i) visit(b, h, i);
      }
    }
  }

  const int64_t batch, queries, heads, size, keys, key_heads;
  const double scale;

 private:
  bool causal_;
  double rate_;
  const Elements* key_mask_ = nullptr;
  const Elements* segments_q_ = nullptr;
  const Elements* segments_k_ = nullptr;
  std::optional<RngKey> key_;
  int64_t whole_heads_ = 0, first_batch_ = 0, first_head_ = 0;  // of all devices
  uint64_t first_ = 0;  // index of the first element that is drawn
};

double product(const Elements& a, size_t at_a, const Elements& b, size_t at_b, int64_t size) {
  double sum = 0.0;
  for (size_t d = 0; d < static_cast<size_t>(size); ++d) sum += a[at_a + d] * b[at_b + d];
  return sum;
}

/// to[at..] += factor * from[start..]
void accumulate(Elements& to, size_t at, double factor, const Elements& from, size_t start,
                int64_t size) {
  for (size_t d = 0; d < static_cast<size_t>(size); ++d) to[at + d] += factor * from[start + d];
}

std::vector<Elements> attention(const Call& call) {
  const Attention a(call, 3);
  const Elements& q = call.data(0);
  const Elements& k = call.data(1);
  const Elements& v = call.data(2);
  Elements out(q.size(), 0.0);
  Elements lse(static_cast<size_t>(a.batch * a.heads * a.queries), -kInfinity);
  a.each_query([&](int64_t b, int64_t h, int64_t i) {
    Elements scores(static_cast<size_t>(a.keys), -kInfinity);
    double top = -kInfinity;
    for (int64_t j = 0; j < a.keys; ++j) {
      if (!a.visible(b, i, j)) continue;
      double& score = scores[static_cast<size_t>(j)];
      score = a.scale * product(q, a.query(b, i, h), k, a.key(b, j, h), a.size);
      if (score > top || std::isnan(score)) top = score;
    }
    if (top == -kInfinity) return;
    double sum = 0.0;
    for (double score : scores) sum += std::exp(score - top);
    lse[a.row(b, h, i)] = top + std::log(sum);
    for (int64_t j = 0; j < a.keys; ++j) {
      if (!a.visible(b, i, j)) continue;
      const double p = std::exp(scores[static_cast<size_t>(j)] - top) / sum;
      accumulate(out, a.query(b, i, h), p * a.dropout(b, h, i, j), v, a.key(b, j, h), a.size);
    }
  });
  return {std::move(out), std::move(lse)};
}

/// From q, k, v, out, lse and the gradient of out, with p = exp(score - lse) and dropout factors z:
/// dv = (z p)^T dout; ds = p (z (dout v^T) - dout . out); dq = scale ds k; dk = scale ds^T q.
std::vector<Elements> attention_grad(const Call& call) {
  const Attention a(call, 6);
  const Elements& q = call.data(0);
  const Elements& k = call.data(1);
  const Elements& v = call.data(2);
  const Elements& out = call.data(3);
  const Elements& lse = call.data(4);
  const Elements& dout = call.data(5);
  Elements dq(q.size(), 0.0);
  Elements dk(k.size(), 0.0);
  Elements dv(v.size(), 0.0);
  a.each_query([&](int64_t b, int64_t h, int64_t i) {
    const size_t at_q = a.query(b, i, h);
    const double delta = product(dout, at_q, out, at_q, a.size);
    for (int64_t j = 0; j < a.keys; ++j) {
      if (!a.visible(b, i, j)) continue;
      const size_t at_k = a.key(b, j, h);
      const double score = a.scale * product(q, at_q, k, at_k, a.size);
      const double p = std::exp(score - lse[a.row(b, h, i)]);
      const double z = a.dropout(b, h, i, j);
      const double ds = p * (z * product(dout, at_q, v, at_k, a.size) - delta);
      accumulate(dv, at_k, z * p, dout, at_q, a.size);
      accumulate(dq, at_q, a.scale * ds, k, at_k, a.size);
      accumulate(dk, at_k, a.scale * ds, q, at_q, a.size);
    }
  });
  return {std::move(dq), std::move(dk), std::move(dv)};
}

}  // namespace

std::vector<KernelRow> attention_kernels() {
  return {{Op::attention, attention}, {Op::attention_grad, attention_grad}};
}

}  // namespace espalier::interp
