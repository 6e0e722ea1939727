// SPDX-License-Identifier: Apache-2.0
// Strided views: how the data-movement ops look at stored elements without copying them.
#pragma once

#include <optional>
#include <vector>

#include "espalier/ir/graph.h"

namespace espalier::ir {

/// Element (i0, i1, ...) lies at offset + sum(strides[d] * i_d), in elements.
struct StridedView {
  int64_t offset = 0;
  Shape shape;
  std::vector<int64_t> strides;

  static StridedView contiguous(const Shape& shape) { return {0, shape, shape.strides()}; }
  bool is_contiguous() const;
  friend bool operator==(const StridedView&, const StridedView&) = default;
};

/// The view that a node with trait kView makes of its operand; nothing where strides cannot
/// express it (a reshape that merges axes which do not follow each other in memory).
std::optional<StridedView> apply_view(const Node& node, const StridedView& operand);
std::optional<StridedView> reshape_view(const StridedView& view, const Shape& shape);

}  // namespace espalier::ir
