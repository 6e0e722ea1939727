// SPDX-License-Identifier: Apache-2.0
// Moves values between places: nodes that gather, slice and sum over groups of devices.
#pragma once

#include <string>
#include <string_view>

#include "espalier/ir/builder.h"
#include "espalier/passes/partition_assign.h"

namespace espalier::passes::part {

/// How a value lies on the mesh: its cuts, and the axes over which its pieces are still to be
/// summed.
struct Layout {
  shard::PartitionSpec spec = {};
  AxisList open = {};
  friend bool operator==(const Layout&, const Layout&) = default;
};

class Mover {
 public:
  Mover(ir::Builder& out, const shard::Mesh& mesh) : out_(out), mesh_(mesh) {}

  /// What collectives are called from here on (attribute `name`).
  void set_label(std::string_view label) {
    label_ = label;
    again_ = false;
  }
  /// true: until the next label, gathers get the attribute `remat`, so that cse does not join them
  /// with others.
  void set_again(bool again) { again_ = again; }

  /// From one place to another: slices where that is all, else gathers over the axes that end, and
  /// slices over those that begin.
  ir::Value move(ir::Value v, const shard::PartitionSpec& from, const shard::PartitionSpec& to);
  /// Takes the open sums: scatters them to where `wanted` has a cut that fits, sums the rest.
  /// Returns the place in `layout`, which is closed then.
  ir::Value close(ir::Value v, Layout& layout, const shard::PartitionSpec& wanted);
  /// The place that `close` leads to.
  shard::PartitionSpec closed(Layout layout, const shard::PartitionSpec& wanted) const;

  /// "data,model"; the axes of an operand's group.
  static std::string joint(const AxisList& axes);
  int64_t devices(const AxisList& axes) const;
  /// Place of the device along axes, an i32 scalar.
  ir::Value axis_index(const AxisList& axes);
  ir::Value all_reduce(ir::Value v, const AxisList& axes, std::string_view reduction = "sum");

 private:
  /// A collective along a dimension, or within its groups.
  ir::Value along(ir::Op op, ir::Value v, const AxisList& axes, int64_t dim, int64_t groups);
  /// Axis and dimension of the next open sum that can be scattered, or an empty axis.
  std::pair<std::string, int64_t> scatter_next(const Layout& layout,
                                               const shard::PartitionSpec& wanted) const;

  ir::Builder& out_;
  const shard::Mesh& mesh_;
  std::string label_;
  bool again_ = false;
};

}  // namespace espalier::passes::part
