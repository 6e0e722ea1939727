// SPDX-License-Identifier: Apache-2.0
#include "espalier/passes/partition_assign.h"

#include <algorithm>
#include <tuple>

namespace espalier::passes::part {

shard::PartitionSpec spec_of(const TensorFactors& dims, const Assignment& assignment) {
  shard::PartitionSpec spec;
  for (size_t d = 0; d < dims.size(); ++d) {
    for (int32_t f : dims[d]) {
      for (const std::string& axis : assignment.axes[static_cast<size_t>(f)]) {
        spec.cut(static_cast<int64_t>(d), axis);
      }
    }
  }
  return spec;
}

AxisList axes_of_kind(const OpFactors& factors, const Assignment& assignment, FactorKind kind) {
  AxisList found;
  for (size_t f = 0; f < factors.factors.size(); ++f) {
    if (factors.factors[f].kind != kind) continue;
    found.insert(found.end(), assignment.axes[f].begin(), assignment.axes[f].end());
  }
  return found;
}

AxisList axes_of_dim(const shard::PartitionSpec& spec, int64_t dim) {
  AxisList found;
  for (const shard::PartitionSpec::Cut& c : spec.cuts()) {
    if (c.dim == dim) found.push_back(c.axis);
  }
  return found;
}

int64_t Assigner::pieces(const AxisList& axes) const {
  int64_t count = 1;
  for (const std::string& axis : axes) count *= mesh_.size(axis);
  return count;
}

void Assigner::offer_dim(const DimFactors& dim,
                         const std::vector<std::pair<std::string, int>>& axes, double elements) {
  // The axes fill one factor after the other, from the major one on.
  size_t at = 0;
  int64_t cut = 1;
  int rank = axes.empty() ? 0 : axes[0].second;
  for (const auto& [axis, wanted] : axes) {
    const int64_t count = mesh_.size(axis);
    const auto size = [&] { return factors_.factors[static_cast<size_t>(dim[at])].size; };
    if (at < dim.size() && cut == size()) {
      ++at;
      cut = 1;
    }
    if (at == dim.size() || size() % (cut * count) != 0) return;
    cut *= count;
    // An inner cut never comes before the one around it.
    rank = std::min(rank, wanted);
    wishes_.push_back({axis, dim[at], rank, elements});
  }
}

/// A dimension of several factors stays one range of elements only where all factors before the
/// last cut one are cut into single elements.
bool Assigner::is_contiguous(const Assignment& made) const {
  const auto fits = [&](const TensorFactors& dims) {
    return std::all_of(dims.begin(), dims.end(), [&](const DimFactors& dim) {
      bool full = true;
      for (int32_t f : dim) {
        const AxisList& axes = made.axes[static_cast<size_t>(f)];
        if (!axes.empty() && !full) return false;
        full = full && pieces(axes) == factors_.factors[static_cast<size_t>(f)].size;
      }
      return true;
    });
  };
  return std::all_of(factors_.inputs.begin(), factors_.inputs.end(), fits) &&
         std::all_of(factors_.results.begin(), factors_.results.end(), fits);
}

bool Assigner::grant(const Wish& wish, Assignment& made) const {
  if (std::find(blocked_.begin(), blocked_.end(), wish.axis) != blocked_.end()) return false;
  for (const AxisList& axes : made.axes) {
    if (std::find(axes.begin(), axes.end(), wish.axis) != axes.end()) return false;
  }
  const auto f = static_cast<size_t>(wish.factor);
  const int64_t count = pieces(made.axes[f]) * mesh_.size(wish.axis);
  if (factors_.factors[f].size % count != 0) return false;
  made.axes[f].push_back(wish.axis);
  if (is_contiguous(made)) return true;
  made.axes[f].pop_back();
  return false;
}

Assignment Assigner::decide() {
  std::stable_sort(wishes_.begin(), wishes_.end(), [](const Wish& a, const Wish& b) {
    return std::tie(a.rank, a.elements) > std::tie(b.rank, b.elements);
  });
  Assignment made{std::vector<AxisList>(factors_.factors.size())};
  for (const Wish& wish : wishes_) grant(wish, made);
  return made;
}

}  // namespace espalier::passes::part
