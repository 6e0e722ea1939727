// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "espalier/plan/program.h"

namespace espalier::plan {
namespace {

using ir::Attr;
using Axes = std::vector<int64_t>;

struct Axis {
  int64_t extent = 1;
  int64_t lhs = 0;  // strides, 0 where the operand does not have the axis
  int64_t rhs = 0;
};

/// Joins a list of axes, outermost first, into one; nothing where a stride breaks.
std::optional<Axis> join(const std::vector<Axis>& axes) {
  Axis joined;
  bool any = false;
  for (size_t i = axes.size(); i-- > 0;) {
    const Axis& axis = axes[i];
    if (axis.extent == 1) continue;
    if (any && (axis.lhs != joined.lhs * joined.extent || axis.rhs != joined.rhs * joined.extent)) {
      return std::nullopt;
    }
    if (any) {
      joined.extent *= axis.extent;
    } else {
      joined = axis;
      any = true;
    }
  }
  return joined;
}

Axes list(const ir::Attrs& attrs, Attr key) {
  return attrs.has(key) ? attrs.integers(key) : Axes{};
}

bool contains(const Axes& axes, int64_t axis) {
  return std::find(axes.begin(), axes.end(), axis) != axes.end();
}

std::vector<Axis> paired(const Axes& lhs_axes, const Axes& rhs_axes, const ir::StridedView& lhs,
                         const ir::StridedView& rhs) {
  std::vector<Axis> axes;
  for (size_t i = 0; i < lhs_axes.size(); ++i) {
    axes.push_back({lhs.shape[lhs_axes[i]], lhs.strides[static_cast<size_t>(lhs_axes[i])],
                    rhs.strides[static_cast<size_t>(rhs_axes[i])]});
  }
  return axes;
}

bool has_unit(int64_t rows, int64_t row, int64_t cols, int64_t col) {
  return row == 1 || col == 1 || rows == 1 || cols == 1;
}

}  // namespace

std::optional<MatmulGeometry> matmul_geometry(const ir::Attrs& attrs, const ir::StridedView& lhs,
                                              const ir::StridedView& rhs) {
  const Axes lhs_batch = list(attrs, Attr::lhs_batch);
  const Axes rhs_batch = list(attrs, Attr::rhs_batch);
  const Axes& lhs_contract = attrs.integers(Attr::lhs_contract);
  const Axes& rhs_contract = attrs.integers(Attr::rhs_contract);

  std::vector<Axis> batch = paired(lhs_batch, rhs_batch, lhs, rhs);
  std::erase_if(batch, [](const Axis& a) { return a.extent == 1; });
  while (batch.size() > 2) {
    // Join the first pair that joins.
    bool joined = false;
    for (size_t i = 0; i + 1 < batch.size() && !joined; ++i) {
      if (const auto one = join({batch[i], batch[i + 1]})) {
        batch[i] = *one;
        batch.erase(batch.begin() + static_cast<std::ptrdiff_t>(i) + 1);
        joined = true;
      }
    }
    if (!joined) return std::nullopt;
  }
  // The order of contracted axes is free: the outermost in memory goes first.
  std::vector<Axis> contracted = paired(lhs_contract, rhs_contract, lhs, rhs);
  std::stable_sort(contracted.begin(), contracted.end(),
                   [](const Axis& x, const Axis& y) { return x.lhs > y.lhs; });
  std::vector<Axis> rows, columns;
  for (int64_t d = 0; d < lhs.shape.rank(); ++d) {
    if (contains(lhs_batch, d) || contains(lhs_contract, d)) continue;
    rows.push_back({lhs.shape[d], lhs.strides[static_cast<size_t>(d)], 0});
  }
  for (int64_t d = 0; d < rhs.shape.rank(); ++d) {
    if (contains(rhs_batch, d) || contains(rhs_contract, d)) continue;
    columns.push_back({rhs.shape[d], 0, rhs.strides[static_cast<size_t>(d)]});
  }
  const auto k = join(contracted);
  const auto m = join(rows);
  const auto n = join(columns);
  if (!k || !m || !n) return std::nullopt;
  if (!has_unit(m->extent, m->lhs, k->extent, k->lhs)) return std::nullopt;
  if (!has_unit(k->extent, k->rhs, n->extent, n->rhs)) return std::nullopt;

  MatmulGeometry g;
  g.m = m->extent;
  g.n = n->extent;
  g.k = k->extent;
  if (!batch.empty()) g.batch_inner = batch.back().extent;
  if (batch.size() == 2) g.batch_outer = batch.front().extent;
  g.a = {m->lhs, k->lhs, batch.size() == 2 ? batch.front().lhs : 0,
         batch.empty() ? 0 : batch.back().lhs};
  g.b = {k->rhs, n->rhs, batch.size() == 2 ? batch.front().rhs : 0,
         batch.empty() ? 0 : batch.back().rhs};
  g.c = {g.n, 1, g.batch_inner * g.m * g.n, g.m * g.n};
  return g;
}

}  // namespace espalier::plan
