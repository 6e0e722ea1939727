// SPDX-License-Identifier: Apache-2.0
#include "espalier/passes/partition_assign.h"

#include <algorithm>
#include <tuple>

namespace espalier::passes::part {

shard::PartitionSpec spec_of(const TensorFactors& dims, const Assignment& assignment) {
  shard::PartitionSpec spec;
  for (size_t d = 0; d < dims.size(); ++d) {
    int64_t groups = 1;
    bool begun = false;
    for (int32_t factor : dims[d]) {
      const auto f = static_cast<size_t>(factor);
      const AxisList& axes = assignment.axes[f];
      if (!begun) groups *= axes.empty() ? assignment.sizes[f] : assignment.groups[f];
      begun = begun || !axes.empty();
      for (const std::string& axis : axes) spec.cut(static_cast<int64_t>(d), axis, groups);
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
                         const std::vector<std::pair<std::string, int>>& axes, int64_t groups,
                         double elements) {
  size_t at = 0;
  const auto size = [&] { return factors_.factors[static_cast<size_t>(dim[at])].size; };
  // Groups are factors before the one that is cut, and the first part of it.
  while (groups > 1 && at < dim.size() && groups % size() == 0) {
    groups /= size();
    ++at;
  }
  // The axes fill one factor after the other, from the major one on.
  int64_t cut = 1;
  int rank = axes.empty() ? 0 : axes[0].second;
  for (const auto& [axis, wanted] : axes) {
    const int64_t count = mesh_.size(axis);
    if (at < dim.size() && cut * groups == size()) {
      ++at;
      cut = groups = 1;
    }
    if (at == dim.size() || size() % (cut * groups * count) != 0) return;
    cut *= count;
    // An inner cut never comes before the one around it.
    rank = std::min(rank, wanted);
    wishes_.push_back({axis, dim[at], rank, elements, groups});
  }
}

/// A dimension of several factors is groups of ranges where all factors behind the first cut one
/// and before the last are cut into single elements.
bool Assigner::is_expressible(const DimFactors& dim, const Assignment& made) const {
  bool begun = false, full = true;
  for (int32_t factor : dim) {
    const auto f = static_cast<size_t>(factor);
    const int64_t size = made.sizes[f], groups = made.groups[f];
    const AxisList& axes = made.axes[f];
    if (!axes.empty()) {
      if (begun && (!full || groups > 1)) return false;
      if (ranges_ && (!full || groups > 1)) return false;
      begun = true;
      full = true;
    }
    full = full && pieces(axes) * groups == size;
  }
  return true;
}

bool Assigner::is_expressible(const Assignment& made) const {
  const auto fits = [&](const TensorFactors& dims) {
    return std::all_of(dims.begin(), dims.end(),
                       [&](const DimFactors& dim) { return is_expressible(dim, made); });
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
  AxisList& axes = made.axes[f];
  if (factors_.factors[f].kind == FactorKind::one) return false;
  if (!axes.empty() && made.groups[f] != wish.groups) return false;
  const int64_t count = pieces(axes) * mesh_.size(wish.axis);
  if (made.sizes[f] % (wish.groups * count) != 0) return false;
  axes.push_back(wish.axis);
  made.groups[f] = wish.groups;
  if (is_expressible(made)) return true;
  axes.pop_back();
  if (axes.empty()) made.groups[f] = 1;
  return false;
}

Assignment Assigner::decide() {
  std::stable_sort(wishes_.begin(), wishes_.end(), [](const Wish& a, const Wish& b) {
    return std::tie(a.rank, a.elements) > std::tie(b.rank, b.elements);
  });
  const size_t count = factors_.factors.size();
  Assignment made{std::vector<AxisList>(count), std::vector<int64_t>(count, 1), {}};
  for (const Factor& factor : factors_.factors) made.sizes.push_back(factor.size);
  for (const Wish& wish : wishes_) grant(wish, made);
  return made;
}

}  // namespace espalier::passes::part
