// SPDX-License-Identifier: Apache-2.0
// Data movement, reductions, dot, rows of a table.
#include <algorithm>
#include <numeric>

#include "espalier/autodiff/rules.h"

namespace espalier::autodiff {
namespace {

using ir::Attr;
using ir::Op;
using Axes = std::vector<int64_t>;

bool contains(const Axes& axes, int64_t axis) {
  return std::find(axes.begin(), axes.end(), axis) != axes.end();
}

/// Axes [0, rank) that are in none of the lists.
Axes others(int64_t rank, const Axes& a, const Axes& b = {}) {
  Axes rest;
  for (int64_t i = 0; i < rank; ++i) {
    if (!contains(a, i) && !contains(b, i)) rest.push_back(i);
  }
  return rest;
}

Axes range(int64_t begin, int64_t end) {
  Axes axes(static_cast<size_t>(end - begin));
  std::iota(axes.begin(), axes.end(), begin);
  return axes;
}

Axes axes_or_none(const Use& u, Attr key) {
  return u.node.attrs.has(key) ? u.node.attrs.integers(key) : Axes{};
}

Tensor add_node(const Use& u, Op op, std::vector<ir::Value> inputs, ir::Attrs attrs) {
  return {u.builder, u.builder.add(op, std::move(inputs), std::move(attrs))};
}

Grads broadcast_rule(const Use& u) {
  return {reduce_sum(u.g(), others(u.g().rank(), u.node.attrs.integers(Attr::axes)))};
}

Grads reshape_rule(const Use& u) { return {reshape(u.g(), u.in[0].shape())}; }

Grads transpose_rule(const Use& u) {
  const Axes& permutation = u.node.attrs.integers(Attr::permutation);
  Axes inverse(permutation.size());
  for (size_t i = 0; i < permutation.size(); ++i) {
    inverse[static_cast<size_t>(permutation[i])] = static_cast<int64_t>(i);
  }
  return {transpose(u.g(), inverse)};
}

/// The gradient of a slice, with zeros around it.
Grads slice_rule(const Use& u) {
  Axes high = u.in[0].shape().dims();
  for (size_t i = 0; i < high.size(); ++i) high[i] -= u.node.attrs.integers(Attr::limits)[i];
  return {add_node(
      u, Op::pad, {u.g().value()},
      {{Attr::low, u.node.attrs.integers(Attr::starts)}, {Attr::high, high}, {Attr::value, 0.0}})};
}

Grads pad_rule(const Use& u) {
  const Axes& low = u.node.attrs.integers(Attr::low);
  Axes limits = u.in[0].shape().dims();
  for (size_t i = 0; i < limits.size(); ++i) limits[i] += low[i];
  return {add_node(u, Op::slice, {u.g().value()}, {{Attr::starts, low}, {Attr::limits, limits}})};
}

Grads concat_rule(const Use& u) {
  const int64_t axis = u.node.attrs.integer(Attr::axis);
  Grads grads;
  int64_t start = 0;
  for (size_t i = 0; i < u.in.size(); ++i) {
    const int64_t limit = start + u.in[i].size(axis);
    grads.push_back(u.needs[i] ? slice(u.g(), axis, start, limit) : Tensor());
    start = limit;
  }
  return grads;
}

Axes kept_axes(const Use& u) { return others(u.in[0].rank(), u.node.attrs.integers(Attr::axes)); }

Grads reduce_sum_rule(const Use& u) { return {spread(u.g(), u.in[0].shape(), kept_axes(u))}; }

Grads reduce_max_rule(const Use& u) {
  const Tensor& x = u.in[0];
  const Axes kept = kept_axes(u);
  const Tensor top = compare(Op::eq, x, broadcast(u.out[0], x.shape(), kept));
  const Tensor hit = select(top, constant_like(x, 1.0), constant_like(x, 0.0));
  const Tensor ties = reduce_sum(hit, u.node.attrs.integers(Attr::axes));
  return {hit * spread(u.g() / ties, x.shape(), kept)};
}

/// One operand of a dot: which of its axes are batch, contracted and free.
struct Side {
  Tensor tensor;
  Axes batch, contract, free;
};

/// The gradient of side `a` of c = dot(a, b) or dot(b, a): contracts the axes `b_in_c` that b's
/// free axes have in c. The operands stand in the order that needs no transpose, where one exists.
Tensor dot_grad(Tensor g, const Side& a, const Side& b, const Axes& b_in_c) {
  g = convert(g, a.tensor.dtype());
  const Axes batch = range(0, static_cast<int64_t>(a.batch.size()));
  const DotDims g_first{batch, b.batch, b_in_c, b.free};
  const DotDims b_first{b.batch, batch, b.free, b_in_c};

  // b's contracted axes stand in b's order; axis b.contract[i] is a's axis a.contract[i].
  Axes contracted;
  Axes sorted = b.contract;
  std::sort(sorted.begin(), sorted.end());
  for (int64_t axis : sorted) {
    const auto at = std::find(b.contract.begin(), b.contract.end(), axis) - b.contract.begin();
    contracted.push_back(a.contract[static_cast<size_t>(at)]);
  }
  const auto joined = [&](const Axes& first, const Axes& second) {
    Axes all = a.batch;
    all.insert(all.end(), first.begin(), first.end());
    all.insert(all.end(), second.begin(), second.end());
    return all;
  };
  const Axes identity = range(0, a.tensor.rank());
  if (joined(a.free, contracted) == identity) return dot(g, b.tensor, g_first);
  if (joined(contracted, a.free) == identity) return dot(b.tensor, g, b_first);
  const Axes order = joined(a.free, contracted);  // axis of a that each result axis is
  Axes permutation(order.size());
  for (size_t i = 0; i < order.size(); ++i) {
    permutation[static_cast<size_t>(order[i])] = static_cast<int64_t>(i);
  }
  return transpose(dot(g, b.tensor, g_first), permutation);
}

Grads dot_rule(const Use& u) {
  const auto side = [&](size_t i, Attr batch, Attr contract) {
    Side s{u.in[i], axes_or_none(u, batch), axes_or_none(u, contract), {}};
    s.free = others(s.tensor.rank(), s.batch, s.contract);
    return s;
  };
  const Side lhs = side(0, Attr::lhs_batch, Attr::lhs_contract);
  const Side rhs = side(1, Attr::rhs_batch, Attr::rhs_contract);
  const auto lhs_start = static_cast<int64_t>(lhs.batch.size());
  const auto rhs_start = lhs_start + static_cast<int64_t>(lhs.free.size());
  Grads grads(2);
  if (u.needs[0]) grads[0] = dot_grad(u.g(), lhs, rhs, range(rhs_start, u.g().rank()));
  if (u.needs[1]) grads[1] = dot_grad(u.g(), rhs, lhs, range(lhs_start, rhs_start));
  return grads;
}

Grads gather_rule(const Use& u) {
  return {add_node(u, Op::scatter_add, {u.in[1].value(), u.g().value()},
                   {{Attr::rows, u.in[0].size(0)}}),
          Tensor()};
}

Grads scatter_add_rule(const Use& u) { return {Tensor(), gather(u.g(), u.in[0])}; }

}  // namespace

std::vector<RuleRow> structure_rules() {
  return {
      {Op::broadcast, broadcast_rule},
      {Op::reshape, reshape_rule},
      {Op::transpose, transpose_rule},
      {Op::slice, slice_rule},
      {Op::concat, concat_rule},
      {Op::pad, pad_rule},
      {Op::reduce_sum, reduce_sum_rule},
      {Op::reduce_max, reduce_max_rule},
      {Op::dot, dot_rule},
      {Op::gather, gather_rule},
      {Op::scatter_add, scatter_add_rule},
  };
}

}  // namespace espalier::autodiff
