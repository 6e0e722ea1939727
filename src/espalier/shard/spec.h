// SPDX-License-Identifier: Apache-2.0
// PartitionSpec: which axes of a mesh cut which dimensions of a tensor.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/shard/mesh.h"
#include "espalier/tensor/shape.h"

namespace espalier::shard {

/// An axis cuts one dimension at most; a dimension may be cut by several axes, the first of them
/// into the coarsest pieces. A spec without cuts means a whole copy on every device.
///
/// A dimension may be several things of one size behind each other (the rows of query, key and
/// value in one weight). Cut within groups, a device has its piece of each of them: dimension 6
/// over two devices is 0 1 2 | 3 4 5, and 0 2 4 | 1 3 5 within three groups.
class PartitionSpec {
 public:
  struct Cut {
    int32_t dim;
    std::string axis;
    int64_t groups = 1;  // equal for all cuts of a dimension
    friend bool operator==(const Cut&, const Cut&) = default;
  };

  PartitionSpec() = default;
  /// One list of axes for each dimension: PartitionSpec{{"model"}, {}} cuts dimension 0.
  PartitionSpec(std::initializer_list<std::vector<std::string>> axes_of_dims);

  /// Ordered by dimension.
  const std::vector<Cut>& cuts() const { return cuts_; }
  bool replicated() const { return cuts_.empty(); }
  /// The dimension that `axis` cuts, or -1.
  int64_t dim_of(std::string_view axis) const;
  /// Groups that a dimension is cut within; 1 where it is not cut.
  int64_t groups(int64_t dim) const;
  /// Adds a cut inside those that the dimension already has, whose groups must be the same.
  void cut(int64_t dim, std::string_view axis, int64_t groups = 1);

  /// Pieces along a dimension, and in all.
  int64_t pieces(int64_t dim, const Mesh& mesh) const;
  int64_t pieces(const Mesh& mesh) const;
  /// Shape of one piece; throws `user` when the pieces of a dimension do not divide it.
  Shape local_shape(const Shape& shape, const Mesh& mesh) const;
  /// "(model,-)", "((data,model),-)", "(3*model,-)" within three groups; "-" for a whole copy.
  std::string str(int64_t rank) const;
  /// Reads what str writes; throws `user` for anything else.
  static PartitionSpec parse(std::string_view text);

  friend bool operator==(const PartitionSpec&, const PartitionSpec&) = default;

 private:
  std::vector<Cut> cuts_;
};

/// A box [first, first + size) inside a tensor that is seen as `view`: its shape, where dimensions
/// that are cut within groups are two, groups and what is in one.
struct Region {
  std::vector<int64_t> first;
  Shape size;
  Shape view;
};

/// The piece of a tensor that the device at `rank` holds.
Region region_of(const Shape& shape, const PartitionSpec& spec, const Mesh& mesh, int64_t rank);

/// What a parameter knows about its place.
struct Placement {
  PartitionSpec spec;
  /// Index of the rule that changed this last, -1 for none; see nn::PlanReport.
  int32_t rule = -1;
  /// A `replicate` rule: later rules of the same plan leave the parameter whole.
  bool pinned = false;

  friend bool operator==(const Placement&, const Placement&) = default;
};

}  // namespace espalier::shard
