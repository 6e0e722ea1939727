// SPDX-License-Identifier: Apache-2.0
#include "espalier/passes/partition_moves.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <tuple>

namespace espalier::passes::part {

using ir::Attr;
using ir::Op;
using shard::PartitionSpec;

namespace {

/// `list` begins with `head`.
bool begins(const AxisList& list, const AxisList& head) {
  return list.size() >= head.size() && std::equal(head.begin(), head.end(), list.begin());
}
AxisList tail(const AxisList& list, size_t from) {
  return {list.begin() + static_cast<std::ptrdiff_t>(from), list.end()};
}
size_t common(const AxisList& a, const AxisList& b) {
  size_t n = 0;
  while (n < a.size() && n < b.size() && a[n] == b[n]) ++n;
  return n;
}
PartitionSpec with_dim(const PartitionSpec& spec, int64_t dim, const AxisList& axes,
                       int64_t groups) {
  PartitionSpec made;
  for (const PartitionSpec::Cut& c : spec.cuts()) {
    if (c.dim != dim) made.cut(c.dim, c.axis, c.groups);
  }
  for (const std::string& axis : axes) made.cut(dim, axis, groups);
  return made;
}
/// Axes that cut a dimension in both, coarsest first; none where the groups differ.
size_t common(const PartitionSpec& a, const PartitionSpec& b, int64_t dim) {
  return a.groups(dim) == b.groups(dim) ? common(axes_of_dim(a, dim), axes_of_dim(b, dim)) : 0;
}

}  // namespace

std::string Mover::joint(const AxisList& axes) { return fmt::format("{}", fmt::join(axes, ",")); }

int64_t Mover::devices(const AxisList& axes) const {
  int64_t count = 1;
  for (const std::string& axis : axes) count *= mesh_.size(axis);
  return count;
}

ir::Value Mover::axis_index(const AxisList& axes) {
  return out_.add(Op::axis_index, {},
                  {{Attr::mesh_axes, joint(axes)}, {Attr::devices, devices(axes)}});
}

ir::Value Mover::all_reduce(ir::Value v, const AxisList& axes, std::string_view reduction) {
  ir::Attrs attrs{{Attr::mesh_axes, joint(axes)}, {Attr::devices, devices(axes)}};
  attrs.set(Attr::name, label_);
  if (reduction != "sum") attrs.set(Attr::reduction, std::string(reduction));
  return out_.add(Op::all_reduce, {v}, std::move(attrs));
}

ir::Value Mover::along(Op op, ir::Value v, const AxisList& axes, int64_t dim, int64_t groups) {
  const auto reshaped = [&](std::vector<int64_t> dims) {
    v = out_.add(Op::reshape, {v}, {{Attr::shape, std::move(dims)}});
  };
  const auto at = static_cast<std::ptrdiff_t>(dim);
  if (groups > 1) {
    std::vector<int64_t> dims = out_.type(v).shape.dims();
    dims[static_cast<size_t>(dim)] /= groups;
    dims.insert(dims.begin() + at, groups);
    reshaped(std::move(dims));
  }
  ir::Attrs attrs{{Attr::mesh_axes, joint(axes)},
                  {Attr::devices, devices(axes)},
                  {Attr::axis, groups > 1 ? dim + 1 : dim}};
  attrs.set(Attr::name, label_);
  if (op == Op::all_gather && again_) attrs.set(Attr::remat, int64_t{1});
  v = out_.add(op, {v}, std::move(attrs));
  if (groups > 1) {
    std::vector<int64_t> dims = out_.type(v).shape.dims();
    dims.erase(dims.begin() + at);
    dims[static_cast<size_t>(dim)] *= groups;
    reshaped(std::move(dims));
  }
  return v;
}

ir::Value Mover::move(ir::Value v, const PartitionSpec& from, const PartitionSpec& to) {
  const int64_t rank = out_.type(v).shape.rank();
  PartitionSpec now = from;
  // What only needs slices is made smaller before anything is gathered.
  for (int64_t d = 0; d < rank; ++d) {
    const AxisList have = axes_of_dim(now, d);
    const AxisList want = axes_of_dim(to, d);
    if (want.size() == have.size() || common(now, to, d) != have.size()) continue;
    const AxisList more = tail(want, have.size());
    const bool free = std::all_of(more.begin(), more.end(),
                                  [&](const std::string& axis) { return now.dim_of(axis) < 0; });
    if (!free) continue;
    v = along(Op::shard_slice, v, more, d, to.groups(d));
    now = with_dim(now, d, want, to.groups(d));
  }
  for (int64_t d = 0; d < rank; ++d) {
    const AxisList have = axes_of_dim(now, d);
    const size_t kept = common(now, to, d);
    if (kept == have.size()) continue;
    v = along(Op::all_gather, v, tail(have, kept), d, now.groups(d));
    now = with_dim(now, d, {have.begin(), have.begin() + static_cast<std::ptrdiff_t>(kept)},
                   now.groups(d));
  }
  for (int64_t d = 0; d < rank; ++d) {
    const size_t kept = axes_of_dim(now, d).size();
    const AxisList want = axes_of_dim(to, d);
    if (kept < want.size()) {
      v = along(Op::shard_slice, v, tail(want, kept), d, to.groups(d));
    }
  }
  return v;
}

std::pair<std::string, int64_t> Mover::scatter_next(const Layout& layout,
                                                    const PartitionSpec& wanted) const {
  for (const PartitionSpec::Cut& c : wanted.cuts()) {
    if (std::find(layout.open.begin(), layout.open.end(), c.axis) == layout.open.end()) continue;
    AxisList then = axes_of_dim(layout.spec, c.dim);
    const bool alike = then.empty() || layout.spec.groups(c.dim) == c.groups;
    then.push_back(c.axis);
    if (alike && begins(axes_of_dim(wanted, c.dim), then)) return {c.axis, c.dim};
  }
  return {};
}

ir::Value Mover::close(ir::Value v, Layout& layout, const PartitionSpec& wanted) {
  for (auto [axis, dim] = scatter_next(layout, wanted); !axis.empty();
       std::tie(axis, dim) = scatter_next(layout, wanted)) {
    v = along(Op::reduce_scatter, v, {axis}, dim, wanted.groups(dim));
    layout.spec.cut(dim, axis, wanted.groups(dim));
    std::erase(layout.open, axis);
  }
  if (!layout.open.empty()) v = all_reduce(v, layout.open);
  layout.open.clear();
  return v;
}

PartitionSpec Mover::closed(Layout layout, const PartitionSpec& wanted) const {
  for (auto [axis, dim] = scatter_next(layout, wanted); !axis.empty();
       std::tie(axis, dim) = scatter_next(layout, wanted)) {
    layout.spec.cut(dim, axis, wanted.groups(dim));
    std::erase(layout.open, axis);
  }
  return layout.spec;
}

}  // namespace espalier::passes::part
