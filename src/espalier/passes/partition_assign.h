// SPDX-License-Identifier: Apache-2.0
// Which mesh axes cut which factors of one op.
#pragma once

#include <string>
#include <vector>

#include "espalier/passes/partition_factors.h"
#include "espalier/shard/spec.h"

namespace espalier::passes::part {

/// Axes of a list, the first of them cutting into the coarsest pieces.
using AxisList = std::vector<std::string>;

/// Axes that cut each factor of an op.
struct Assignment {
  std::vector<AxisList> axes;
  std::vector<int64_t> groups;  // within which a factor is cut: see PartitionSpec
  std::vector<int64_t> sizes;   // of the factors
};

/// How a tensor of the op lies under an assignment: cut within groups where the first factor that
/// is cut has others before it.
shard::PartitionSpec spec_of(const TensorFactors& dims, const Assignment& assignment);
/// Axes of all factors of a kind, in the order of the factors.
AxisList axes_of_kind(const OpFactors& factors, const Assignment& assignment, FactorKind kind);
/// Axes that cut a dimension, coarsest first.
AxisList axes_of_dim(const shard::PartitionSpec& spec, int64_t dim);

/// Collects wishes and decides. An axis cuts one factor only; of two wishes for an axis the one of
/// higher rank is granted, of equals that of the larger tensor, then the first.
class Assigner {
 public:
  /// `ranges`: no tensor may be cut within groups.
  Assigner(const OpFactors& factors, const shard::Mesh& mesh, bool ranges = false)
      : factors_(factors), mesh_(mesh), ranges_(ranges) {}

  /// An axis that cuts nothing here: the operand's sum over it is open.
  void block(const std::string& axis) { blocked_.push_back(axis); }
  /// A tensor of the op lies so, or shall. `rank_of(axis)`: higher comes first.
  template <typename RankOf>
  void offer(const TensorFactors& dims, const shard::PartitionSpec& spec, double elements,
             const RankOf& rank_of) {
    for (size_t d = 0; d < dims.size(); ++d) {
      std::vector<std::pair<std::string, int>> axes;
      for (const std::string& axis : axes_of_dim(spec, static_cast<int64_t>(d))) {
        axes.emplace_back(axis, rank_of(axis));
      }
      offer_dim(dims[d], axes, spec.groups(static_cast<int64_t>(d)), elements);
    }
  }
  Assignment decide();

 private:
  struct Wish {
    std::string axis;
    int32_t factor;
    int rank;
    double elements;
    int64_t groups;  // of the factor
  };
  void offer_dim(const DimFactors& dim, const std::vector<std::pair<std::string, int>>& axes,
                 int64_t groups, double elements);
  bool grant(const Wish& wish, Assignment& made) const;
  bool is_expressible(const Assignment& made) const;
  bool is_expressible(const DimFactors& dim, const Assignment& made) const;
  int64_t pieces(const AxisList& axes) const;

  const OpFactors& factors_;
  const shard::Mesh& mesh_;
  bool ranges_;
  std::vector<std::string> blocked_;
  std::vector<Wish> wishes_;
};

}  // namespace espalier::passes::part
