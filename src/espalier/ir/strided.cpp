// SPDX-License-Identifier: Apache-2.0
#include "espalier/ir/strided.h"

#include "espalier/base/error.h"

namespace espalier::ir {

bool StridedView::is_contiguous() const {
  int64_t expected = 1;
  for (int64_t d = shape.rank(); d-- > 0;) {
    if (shape[d] != 1 && strides[static_cast<size_t>(d)] != expected) return false;
    expected *= shape[d];
  }
  return true;
}

std::optional<StridedView> reshape_view(const StridedView& view, const Shape& shape) {
  // Groups of axes with equal products are matched from the left; inside a group the old axes must
  // lie one after the other in memory.
  StridedView result{view.offset, shape,
                     std::vector<int64_t>(static_cast<size_t>(shape.rank()), 1)};
  if (shape.numel() == 0) return result;
  int64_t old_axis = 0;
  int64_t new_axis = 0;
  while (new_axis < shape.rank() || old_axis < view.shape.rank()) {
    int64_t old_product = old_axis < view.shape.rank() ? view.shape[old_axis] : 1;
    int64_t new_product = new_axis < shape.rank() ? shape[new_axis] : 1;
    int64_t old_end = old_axis + (old_axis < view.shape.rank() ? 1 : 0);
    int64_t new_end = new_axis + (new_axis < shape.rank() ? 1 : 0);
    while (old_product != new_product) {
      if (old_product < new_product) {
        old_product *= view.shape[old_end++];
      } else {
        new_product *= shape[new_end++];
      }
    }
    int64_t stride = 0;  // of the group's innermost element
    int64_t expected = -1;
    for (int64_t d = old_end; d-- > old_axis;) {
      if (view.shape[d] == 1) continue;
      const int64_t s = view.strides[static_cast<size_t>(d)];
      if (expected < 0) {
        stride = s;
      } else if (s != expected) {
        return std::nullopt;
      }
      expected = s * view.shape[d];
    }
    if (expected < 0) stride = 1;
    for (int64_t d = new_end; d-- > new_axis;) {
      result.strides[static_cast<size_t>(d)] = stride;
      stride *= shape[d];
    }
    old_axis = old_end;
    new_axis = new_end;
  }
  return result;
}

std::optional<StridedView> apply_view(const Node& node, const StridedView& operand) {
  StridedView result;
  switch (node.op) {
    case Op::reshape:
      return reshape_view(operand, node.types[0].shape);
    case Op::transpose:
      result = {operand.offset, node.types[0].shape, {}};
      for (int64_t axis : node.attrs.integers(Attr::permutation)) {
        result.strides.push_back(operand.strides[static_cast<size_t>(axis)]);
      }
      return result;
    case Op::slice: {
      result = {operand.offset, node.types[0].shape, operand.strides};
      const auto& starts = node.attrs.integers(Attr::starts);
      for (size_t d = 0; d < starts.size(); ++d) result.offset += starts[d] * operand.strides[d];
      return result;
    }
    case Op::broadcast: {
      const auto& axes = node.attrs.integers(Attr::axes);
      result = {operand.offset, node.types[0].shape,
                std::vector<int64_t>(static_cast<size_t>(node.types[0].shape.rank()), 0)};
      for (size_t d = 0; d < axes.size(); ++d) {
        result.strides[static_cast<size_t>(axes[d])] = operand.strides[d];
      }
      return result;
    }
    default:
      fail(ErrorKind::internal, "view", "{} is not a view", name(node.op));
  }
}

}  // namespace espalier::ir
