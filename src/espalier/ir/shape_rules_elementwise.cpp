// SPDX-License-Identifier: Apache-2.0
#include "espalier/base/error.h"
#include "espalier/ir/shape_rules.h"

namespace espalier::ir {

Types leaf_rule(const OpUse& use) {
  TensorType type{use.attrs.dtype(Attr::dtype), Shape(use.attrs.integers(Attr::shape))};
  type.shape.numel();  // throws on negative sizes and overflow
  return {type};
}

Types iota_rule(const OpUse& use) {
  Types types = leaf_rule(use);
  const int64_t axis = use.attrs.integer(Attr::axis);
  ESPALIER_CHECK(axis >= 0 && axis < types[0].shape.rank(), ErrorKind::user, name(use.op),
                 "axis {} is outside {}", axis, types[0].str());
  return types;
}

Types random_rule(const OpUse& use) {
  for (const TensorType& t : use.inputs) {
    ESPALIER_CHECK(t.dtype == DType::i64 && t.shape.rank() == 0, ErrorKind::user, name(use.op),
                   "seed and step are i64[], got {}", t.str());
  }
  const Shape shape(use.attrs.integers(Attr::shape));
  check_piece(use, shape);
  return {{DType::f32, shape}};
}

Types same_rule(const OpUse& use) {
  for (const TensorType& t : use.inputs) {
    ESPALIER_CHECK(t == use.inputs[0], ErrorKind::user, name(use.op),
                   "operands differ: lhs {}, rhs {}", use.inputs[0].str(), t.str());
    ESPALIER_CHECK(t.dtype != DType::boolean || use.op == Op::stop_gradient, ErrorKind::user,
                   name(use.op), "takes numbers, got {}", t.str());
  }
  return {use.inputs[0]};
}

Types float_rule(const OpUse& use) {
  ESPALIER_CHECK(is_float(use.inputs[0].dtype), ErrorKind::user, name(use.op),
                 "takes a float type, got {}", use.inputs[0].str());
  return same_rule(use);
}

Types logical_rule(const OpUse& use) {
  for (const TensorType& t : use.inputs) {
    ESPALIER_CHECK(t == use.inputs[0] && t.dtype == DType::boolean, ErrorKind::user, name(use.op),
                   "takes bool operands of one shape, got {}", t.str());
  }
  return {use.inputs[0]};
}

Types convert_rule(const OpUse& use) {
  return {{use.attrs.dtype(Attr::dtype), use.inputs[0].shape}};
}

Types compare_rule(const OpUse& use) {
  ESPALIER_CHECK(use.inputs[0] == use.inputs[1], ErrorKind::user, name(use.op),
                 "operands differ: lhs {}, rhs {}", use.inputs[0].str(), use.inputs[1].str());
  return {{DType::boolean, use.inputs[0].shape}};
}

Types select_rule(const OpUse& use) {
  ESPALIER_CHECK(
      use.inputs[0].dtype == DType::boolean && use.inputs[0].shape == use.inputs[1].shape,
      ErrorKind::user, name(use.op), "condition is {} for values of type {}", use.inputs[0].str(),
      use.inputs[1].str());
  ESPALIER_CHECK(use.inputs[1] == use.inputs[2], ErrorKind::user, name(use.op),
                 "values differ: {} and {}", use.inputs[1].str(), use.inputs[2].str());
  return {use.inputs[1]};
}

}  // namespace espalier::ir
