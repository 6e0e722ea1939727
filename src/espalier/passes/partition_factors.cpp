// SPDX-License-Identifier: Apache-2.0
#include "espalier/passes/partition_factors.h"

#include <algorithm>

#include "espalier/base/error.h"

namespace espalier::passes::part {
namespace {

using ir::Attr;
using ir::Op;
using Axes = std::vector<int64_t>;

Axes axes_or_none(const FactorUse& u, Attr key) {
  return u.node.attrs.has(key) ? u.node.attrs.integers(key) : Axes{};
}
bool contains(const Axes& axes, int64_t axis) {
  return std::find(axes.begin(), axes.end(), axis) != axes.end();
}

/// Factors of an op, all dimensions whole at first.
class Draft {
 public:
  explicit Draft(const FactorUse& use) {
    for (ir::Value v : use.node.inputs) blank(use.graph.type(v).shape, made_.inputs);
    for (const ir::TensorType& type : use.node.types) blank(type.shape, made_.results);
  }

  int32_t factor(int64_t size, FactorKind kind = FactorKind::map) {
    made_.factors.push_back({size, kind});
    return static_cast<int32_t>(made_.factors.size()) - 1;
  }
  /// Appends a factor to a dimension.
  void in(size_t operand, int64_t dim, int32_t f) { at(made_.inputs, operand, dim).push_back(f); }
  void out(size_t result, int64_t dim, int32_t f) { at(made_.results, result, dim).push_back(f); }
  /// Dimension `from` of an operand is dimension `to` of result 0.
  void same(const FactorUse& use, size_t operand, int64_t from, int64_t to) {
    const int32_t f = factor(use.in(operand)[from]);
    in(operand, from, f);
    out(0, to, f);
  }
  /// The first dimension of two operands and of result 0 is cut into the same `count` pieces.
  void pieces(int64_t count) {
    const int32_t piece = factor(count);
    in(0, 0, piece);
    in(1, 0, piece);
    out(0, 0, piece);
  }
  OpFactors done() { return std::move(made_); }

 private:
  static void blank(const Shape& shape, std::vector<TensorFactors>& list) {
    list.emplace_back(static_cast<size_t>(shape.rank()));
  }
  static DimFactors& at(std::vector<TensorFactors>& list, size_t tensor, int64_t dim) {
    return list[tensor][static_cast<size_t>(dim)];
  }
  OpFactors made_;
};

/// Operands and results are alike.
OpFactors elementwise(const FactorUse& u) {
  Draft draft(u);
  for (int64_t d = 0; d < u.out().rank(); ++d) {
    const int32_t f = draft.factor(u.out()[d]);
    for (size_t i = 0; i < u.node.inputs.size(); ++i) draft.in(i, d, f);
    draft.out(0, d, f);
  }
  return draft.done();
}

/// Made from nothing, or from scalars.
OpFactors leaf(const FactorUse& u) {
  Draft draft(u);
  for (int64_t d = 0; d < u.out().rank(); ++d) draft.out(0, d, draft.factor(u.out()[d]));
  return draft.done();
}

OpFactors broadcast(const FactorUse& u) {
  Draft draft(u);
  const Axes& axes = u.node.attrs.integers(Attr::axes);
  for (int64_t d = 0; d < u.out().rank(); ++d) {
    const int32_t f = draft.factor(u.out()[d]);
    const auto from = std::find(axes.begin(), axes.end(), d);
    if (from != axes.end()) draft.in(0, from - axes.begin(), f);
    draft.out(0, d, f);
  }
  return draft.done();
}

OpFactors transpose(const FactorUse& u) {
  Draft draft(u);
  const Axes& permutation = u.node.attrs.integers(Attr::permutation);
  for (size_t d = 0; d < permutation.size(); ++d) {
    draft.same(u, 0, permutation[d], static_cast<int64_t>(d));
  }
  return draft.done();
}

/// Both shapes are read from the left as products of common factors. Sizes without a common factor,
/// as in [6,4] -> [4,6], leave the rest of the dimensions whole.
OpFactors reshape(const FactorUse& u) {
  Draft draft(u);
  const Shape& in = u.in(0);
  const Shape& out = u.out();
  int64_t i = 0, o = 0;
  int64_t left_in = 1, left_out = 1;  // of the dimensions before i and o
  while (true) {
    while (left_in == 1 && i < in.rank()) left_in = in[i++];
    while (left_out == 1 && o < out.rank()) left_out = out[o++];
    const int64_t size = std::min(left_in, left_out);
    if (size <= 1 || left_in % size != 0 || left_out % size != 0) break;
    const int32_t f = draft.factor(size);
    draft.in(0, i - 1, f);
    draft.out(0, o - 1, f);
    left_in /= size;
    left_out /= size;
  }
  return draft.done();
}

/// How many equal parts a dimension of the larger side has, of which a slice takes one, a pad puts
/// one in place, a concat makes all; 0 where it is otherwise.
int64_t equal_parts(const FactorUse& u, int64_t d) {
  const int64_t in = u.in(0)[d], out = u.out()[d];
  const int64_t part = std::min(in, out), whole = std::max(in, out);
  if (part == 0 || whole % part != 0) return 0;
  const auto at = [&](Attr key) { return u.node.attrs.integers(key)[static_cast<size_t>(d)]; };
  bool fits = false;
  if (u.node.op == Op::slice) {
    fits = at(Attr::starts) % part == 0;
  } else if (u.node.op == Op::pad) {
    fits = at(Attr::low) % part == 0;
  } else {
    fits = true;
    for (size_t i = 0; i < u.node.inputs.size(); ++i) fits = fits && u.in(i)[d] == part;
  }
  return fits ? whole / part : 0;
}

/// slice, pad, concat: dimensions of one size everywhere are mapped. One that is made of equal
/// parts on one side is mapped part by part, so that each device has its piece of all of them.
/// Others are needed whole.
OpFactors untouched_dims(const FactorUse& u) {
  Draft draft(u);
  for (int64_t d = 0; d < u.out().rank(); ++d) {
    bool same = u.node.op != Op::concat || d != u.node.attrs.integer(Attr::axis);
    for (size_t i = 0; i < u.node.inputs.size(); ++i) same = same && u.in(i)[d] == u.out()[d];
    const int64_t parts = same ? 1 : equal_parts(u, d);
    if (parts == 0) continue;
    const int64_t part = std::min(u.in(0)[d], u.out()[d]);
    const int32_t f = draft.factor(part);
    if (parts > 1) {
      const int32_t which = draft.factor(parts, FactorKind::one);
      if (u.in(0)[d] > part) {
        draft.in(0, d, which);
      } else {
        draft.out(0, d, which);
      }
    }
    for (size_t i = 0; i < u.node.inputs.size(); ++i) draft.in(i, d, f);
    draft.out(0, d, f);
  }
  return draft.done();
}

template <FactorKind kKind>
OpFactors reduce(const FactorUse& u) {
  Draft draft(u);
  int64_t kept = 0;
  for (int64_t d = 0; d < u.in(0).rank(); ++d) {
    if (contains(u.node.attrs.integers(Attr::axes), d)) {
      draft.in(0, d, draft.factor(u.in(0)[d], kKind));
    } else {
      draft.same(u, 0, d, kept++);
    }
  }
  return draft.done();
}

OpFactors dot(const FactorUse& u) {
  Draft draft(u);
  const Axes lhs_batch = axes_or_none(u, Attr::lhs_batch);
  const Axes rhs_batch = axes_or_none(u, Attr::rhs_batch);
  const Axes& lhs_contract = u.node.attrs.integers(Attr::lhs_contract);
  const Axes& rhs_contract = u.node.attrs.integers(Attr::rhs_contract);
  int64_t to = 0;
  for (size_t i = 0; i < lhs_batch.size(); ++i) {
    const int32_t f = draft.factor(u.in(0)[lhs_batch[i]]);
    draft.in(0, lhs_batch[i], f);
    draft.in(1, rhs_batch[i], f);
    draft.out(0, to++, f);
  }
  for (size_t i = 0; i < lhs_contract.size(); ++i) {
    const int32_t f = draft.factor(u.in(0)[lhs_contract[i]], FactorKind::sum);
    draft.in(0, lhs_contract[i], f);
    draft.in(1, rhs_contract[i], f);
  }
  for (int64_t d = 0; d < u.in(0).rank(); ++d) {
    if (!contains(lhs_batch, d) && !contains(lhs_contract, d)) draft.same(u, 0, d, to++);
  }
  for (int64_t d = 0; d < u.in(1).rank(); ++d) {
    if (!contains(rhs_batch, d) && !contains(rhs_contract, d)) draft.same(u, 1, d, to++);
  }
  return draft.done();
}

/// table [V,D], indices [I...] -> [I...,D]. A device looks up what its rows of the table have, and
/// the results are summed. Indices that stay inside their piece are looked up piece by piece.
OpFactors gather(const FactorUse& u) {
  Draft draft(u);
  const int64_t rank = u.in(1).rank();
  if (u.local_pieces > 1) {
    draft.pieces(u.local_pieces);
  } else {
    draft.in(0, 0, draft.factor(u.in(0)[0], FactorKind::sum));
  }
  for (int64_t d = u.local_pieces > 1 ? 1 : 0; d < rank; ++d) draft.same(u, 1, d, d);
  draft.same(u, 0, 1, rank);
  return draft.done();
}

/// indices [I...], updates [I...,D] -> [R,D]. A device adds what falls on its rows.
OpFactors scatter_add(const FactorUse& u) {
  Draft draft(u);
  const int64_t rank = u.in(0).rank();
  if (u.local_pieces > 1) {
    draft.pieces(u.local_pieces);
  } else {
    draft.out(0, 0, draft.factor(u.out()[0]));
  }
  for (int64_t d = u.local_pieces > 1 ? 1 : 0; d < rank; ++d) {
    const int32_t f = draft.factor(u.in(0)[d], FactorKind::sum);
    draft.in(0, d, f);
    draft.in(1, d, f);
  }
  draft.same(u, 1, rank, 1);
  return draft.done();
}

/// q, k, v and what lies like them, masks [batch, seq]: batch entries and key heads (each with the
/// query heads that read it) are apart from each other.
OpFactors attention(const FactorUse& u) {
  Draft draft(u);
  const Shape& q = u.in(0);
  const int64_t key_heads = u.in(1)[2];
  const int32_t batch = draft.factor(q[0]);
  const int32_t heads = draft.factor(key_heads);
  const int32_t per_key_head = draft.factor(q[2] / key_heads);
  const auto cut_heads = [&](const auto& add, const Shape& shape, int64_t dim) {
    add(dim, heads);
    if (shape[dim] != key_heads) add(dim, per_key_head);
  };
  const auto place = [&](const Shape& shape, const auto& add) {
    if (shape.rank() == 0) return;                    // seed, step
    add(0, batch);                                    // masks end here
    if (shape.rank() == 3) cut_heads(add, shape, 1);  // log-sum-exp [B,H,S]
    if (shape.rank() == 4) cut_heads(add, shape, 2);  // [B,S,H,D]
  };
  for (size_t i = 0; i < u.node.inputs.size(); ++i) {
    place(u.in(i), [&](int64_t dim, int32_t f) { draft.in(i, dim, f); });
  }
  for (size_t r = 0; r < u.node.types.size(); ++r) {
    place(u.out(r), [&](int64_t dim, int32_t f) { draft.out(r, dim, f); });
  }
  return draft.done();
}

const std::vector<PartitionRow>& table() {
  // clang-format off
  static const std::vector<PartitionRow> rows{
      // op, factors, operand with an open sum, lazy, cut again, ranges
      {Op::constant, leaf, OpenSum::close, true},
      {Op::iota, leaf, OpenSum::close, true},
      {Op::random_uniform, leaf, OpenSum::close, true},
      {Op::broadcast, broadcast, OpenSum::close, true},

      {Op::neg, elementwise, OpenSum::pass},
      {Op::stop_gradient, elementwise, OpenSum::pass},
      {Op::add, elementwise, OpenSum::join},
      {Op::sub, elementwise, OpenSum::join},

      {Op::reshape, reshape, OpenSum::pass},
      {Op::transpose, transpose, OpenSum::pass},
      {Op::slice, untouched_dims, OpenSum::close, false, true},
      {Op::concat, untouched_dims, OpenSum::close, false, true},
      {Op::pad, untouched_dims, OpenSum::pass, false, true},

      {Op::reduce_sum, reduce<FactorKind::sum>, OpenSum::pass},
      {Op::reduce_max, reduce<FactorKind::max>},
      {Op::dot, dot},
      {Op::gather, gather, OpenSum::close, false, false, true},
      {Op::scatter_add, scatter_add, OpenSum::close, false, false, true},
      {Op::attention, attention, OpenSum::close, false, false, true},
      {Op::attention_grad, attention, OpenSum::close, false, false, true},
  };
  // clang-format on
  return rows;
}

}  // namespace

const PartitionRow& partition_row(Op op) {
  static const PartitionRow kElementwise{Op::mul, elementwise};
  for (const PartitionRow& row : table()) {
    if (row.op == op) return row;
  }
  ESPALIER_CHECK(has_trait(op, ir::kElementwise), ErrorKind::unsupported, "partition",
                 "{} cannot be cut over a mesh; partition a graph before fusion", name(op));
  return kElementwise;
}

}  // namespace espalier::passes::part
