// SPDX-License-Identifier: Apache-2.0
// Param: a leaf of a module tree.
#pragma once

#include <string>
#include <utility>

#include "espalier/base/error.h"
#include "espalier/ir/tensor.h"
#include "espalier/nn/init.h"
#include "espalier/shard/spec.h"
#include "espalier/tensor/host_tensor.h"

namespace espalier::nn {

/// Shape, dtype and initializer of a parameter. It owns no bytes until `data` is set, and is
/// copied with its module like any value.
struct Param {
  Shape shape;
  DType dtype = DType::f32;
  Init init;
  /// false: no gradient, no optimizer state.
  bool trainable = true;
  /// Not empty: this is a second path of the leaf at that path (counted from the tree's root),
  /// which has the same shape; shape here is only checked against it.
  std::string tied_to;
  /// How plans cut it over a mesh.
  shard::Placement placement;
  /// true: `partition` put this leaf into the other tree; walks over parameters pass it by.
  bool absent = false;
  /// Values, where the leaf has been materialized.
  HostTensor data;
  /// The graph input that stands for this leaf while a graph is traced (see bind in module.h).
  Tensor bound;

  Param() = default;
  explicit Param(Shape shape, Init init = {}, DType dtype = DType::f32)
      : shape(std::move(shape)), dtype(dtype), init(init) {}

  /// The traced value; throws `user` when no graph is being traced.
  const Tensor& value() const {
    ESPALIER_CHECK(
        bound.defined(), ErrorKind::user, "nn",
        "a parameter {}{} is used outside of tracing; bind the module to a builder first",
        name(dtype), shape.str());
    return bound;
  }
};

}  // namespace espalier::nn
