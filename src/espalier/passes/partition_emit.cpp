// SPDX-License-Identifier: Apache-2.0
#include "espalier/passes/partition_emit.h"

#include <algorithm>

#include "espalier/ir/tensor.h"

namespace espalier::passes::part {
namespace {

using ir::Attr;
using ir::Attrs;
using ir::Op;
using ir::Value;

std::vector<Value> add(const EmitUse& u, std::vector<Value> in, Attrs attrs) {
  const Value made = u.out.add(u.node.op, std::move(in), std::move(attrs));
  std::vector<Value> results;
  for (size_t r = 0; r < u.node.types.size(); ++r) {
    results.push_back({made.node, static_cast<int32_t>(r)});
  }
  return results;
}

/// The op itself, with shapes of pieces in its attributes.
std::vector<Value> same_op(const EmitUse& u) {
  Attrs attrs = u.node.attrs;
  if (attrs.has(Attr::shape)) attrs.set(Attr::shape, u.local_shape().dims());
  return add(u, u.in, std::move(attrs));
}

/// A slice leaves dimensions that are cut as they are, or takes one of several equal parts: of the
/// pieces then.
std::vector<Value> slice(const EmitUse& u) {
  std::vector<int64_t> starts = u.node.attrs.integers(Attr::starts);
  std::vector<int64_t> limits = u.node.attrs.integers(Attr::limits);
  const Shape whole = u.node.types[0].shape, local = u.local_shape();
  for (size_t d = 0; d < starts.size(); ++d) {
    const auto dim = static_cast<int64_t>(d);
    if (whole[dim] == local[dim]) continue;
    starts[d] = starts[d] / whole[dim] * local[dim];
    limits[d] = starts[d] + local[dim];
  }
  Attrs attrs = u.node.attrs;
  attrs.set(Attr::starts, starts);
  attrs.set(Attr::limits, limits);
  return add(u, u.in, std::move(attrs));
}

/// Likewise: what is put before and behind a part is parts of its size.
std::vector<Value> pad(const EmitUse& u) {
  Attrs attrs = u.node.attrs;
  const Shape whole = u.graph.type(u.node.inputs[0]).shape, local = u.out.type(u.in[0]).shape;
  for (const Attr side : {Attr::low, Attr::high}) {
    std::vector<int64_t> sizes = attrs.integers(side);
    for (size_t d = 0; d < sizes.size(); ++d) {
      const auto dim = static_cast<int64_t>(d);
      if (whole[dim] != local[dim]) sizes[d] = sizes[d] / whole[dim] * local[dim];
    }
    attrs.set(side, sizes);
  }
  return add(u, u.in, std::move(attrs));
}

/// The number of the first element that this device has along a dimension cut by `axes`.
Tensor first_of(const EmitUse& u, const AxisList& axes, int64_t local_size, DType dtype) {
  const Tensor index(u.out, u.mover.axis_index(axes));
  return convert(index, dtype) * static_cast<double>(local_size);
}

/// Counts on from where the piece begins, in each group anew.
std::vector<Value> iota(const EmitUse& u) {
  const int64_t axis = u.node.attrs.integer(Attr::axis);
  const DType dtype = u.node.attrs.dtype(Attr::dtype);
  const Shape local = u.local_shape();
  const AxisList axes = axes_of_dim(u.out_spec(), axis);
  if (axes.empty()) return {espalier::iota(u.out, dtype, local, axis).value()};
  const int64_t groups = u.out_spec().groups(axis), size = local[axis] / groups;
  const Tensor first = first_of(u, axes, size, dtype);
  if (groups == 1) return {(espalier::iota(u.out, dtype, local, axis) + first).value()};
  std::vector<int64_t> dims = local.dims();
  dims[static_cast<size_t>(axis)] = size;
  dims.insert(dims.begin() + static_cast<std::ptrdiff_t>(axis), groups);
  const int64_t group_size = u.node.types[0].shape[axis] / groups;
  const Tensor group =
      espalier::iota(u.out, dtype, Shape(dims), axis) * static_cast<double>(group_size);
  const Tensor place = espalier::iota(u.out, dtype, Shape(dims), axis + 1) + first;
  return {reshape(group + place, local).value()};
}

std::vector<Value> random_uniform(const EmitUse& u) {
  Attrs attrs = u.node.attrs;
  attrs.set(Attr::shape, u.local_shape().dims());
  const shard::PartitionSpec spec = u.out_spec();
  if (!spec.replicated()) {
    attrs.set(Attr::whole, u.node.types[0].shape.dims());
    attrs.set(Attr::cut, spec.str(u.node.types[0].shape.rank()));
  }
  return add(u, u.in, std::move(attrs));
}

/// With dropout, the probabilities [batch, heads, queries, keys] keep their numbers in the whole.
std::vector<Value> attention(const EmitUse& u) {
  Attrs attrs = u.node.attrs;
  const TensorFactors& q = u.factors.inputs[0];
  const shard::PartitionSpec spec = spec_of({q[0], q[2], {}, {}}, u.assignment);
  if (attrs.real_or(Attr::rate, 0.0) > 0.0 && !spec.replicated()) {
    const Shape& queries = u.graph.type(u.node.inputs[0]).shape;
    const Shape& keys = u.graph.type(u.node.inputs[1]).shape;
    attrs.set(Attr::whole, std::vector<int64_t>{queries[0], queries[2], queries[1], keys[1]});
    attrs.set(Attr::cut, spec.str(4));
  }
  return add(u, u.in, std::move(attrs));
}

/// Indices counted from the first row of this device's piece of a table.
struct LocalRows {
  Tensor index;
  Tensor inside;  // which of them fall on the piece; undefined: all do
};

LocalRows local_rows(const EmitUse& u, Value indices, const AxisList& axes, int64_t rows,
                     bool all_inside) {
  Tensor index(u.out, indices);
  if (index.dtype() == DType::u8) index = convert(index, DType::i32);
  index = index - first_of(u, axes, rows, index.dtype());
  if (all_inside) return {index, {}};
  const Tensor inside =
      logical_and(compare(Op::ge, index, constant_like(index, 0.0)),
                  compare(Op::lt, index, constant_like(index, static_cast<double>(rows))));
  return {select(inside, index, constant_like(index, 0.0)), inside};
}

/// Zeros in the rows [..., n] of x that are not `inside`.
Tensor keep_rows(Tensor x, Tensor inside) {
  std::vector<int64_t> axes;
  for (int64_t d = 0; d < inside.rank(); ++d) axes.push_back(d);
  return select(broadcast(inside, x.shape(), axes), x, constant_like(x, 0.0));
}

/// Rows of the table's piece; zeros for indices that fall on other pieces.
std::vector<Value> gather(const EmitUse& u) {
  const AxisList axes = axes_of_dim(spec_of(u.factors.inputs[0], u.assignment), 0);
  if (axes.empty()) return same_op(u);
  const auto first = static_cast<size_t>(u.factors.inputs[0][0].at(0));
  const bool all_inside = u.factors.factors[first].kind == FactorKind::map;
  const Tensor table(u.out, u.in[0]);
  const LocalRows rows = local_rows(u, u.in[1], axes, table.size(0), all_inside);
  const Tensor found(u.out, add(u, {u.in[0], rows.index.value()}, u.node.attrs)[0]);
  return {all_inside ? found.value() : keep_rows(found, rows.inside).value()};
}

/// Sums of the updates that fall on this device's rows.
std::vector<Value> scatter_add(const EmitUse& u) {
  const AxisList axes = axes_of_dim(u.out_spec(), 0);
  if (axes.empty()) return same_op(u);
  const bool all_inside = u.factors.inputs[0][0] == u.factors.results[0][0];
  const LocalRows rows = local_rows(u, u.in[0], axes, u.local_shape()[0], all_inside);
  Tensor updates(u.out, u.in[1]);
  if (!all_inside) updates = keep_rows(updates, rows.inside);
  Attrs attrs = u.node.attrs;
  attrs.set(Attr::rows, u.local_shape()[0]);
  return add(u, {rows.index.value(), updates.value()}, std::move(attrs));
}

/// The largest of each device's largest.
std::vector<Value> reduce_max(const EmitUse& u) {
  const Value local = same_op(u)[0];
  const AxisList axes = axes_of_kind(u.factors, u.assignment, FactorKind::max);
  return {axes.empty() ? local : u.mover.all_reduce(local, axes, "max")};
}

struct Row {
  Op op;
  std::vector<Value> (*emit)(const EmitUse&);
};
constexpr Row kRows[] = {
    {Op::iota, iota},
    {Op::random_uniform, random_uniform},
    {Op::slice, slice},
    {Op::pad, pad},
    {Op::reduce_max, reduce_max},
    {Op::gather, gather},
    {Op::scatter_add, scatter_add},
    {Op::attention, attention},
    {Op::attention_grad, attention},
};

}  // namespace

std::vector<Value> emit_local(const EmitUse& use) {
  const auto* row = std::find_if(std::begin(kRows), std::end(kRows),
                                 [&](const Row& r) { return r.op == use.node.op; });
  return row == std::end(kRows) ? same_op(use) : row->emit(use);
}

}  // namespace espalier::passes::part
