// SPDX-License-Identifier: Apache-2.0
#include "espalier/base/checked.h"
#include "espalier/base/error.h"
#include "espalier/ir/shape_rules.h"

namespace espalier::ir {
namespace {

/// Devices of the group, at least 1.
int64_t group(const OpUse& use) {
  const int64_t devices = use.attrs.integer(Attr::devices);
  ESPALIER_CHECK(devices >= 1 && !use.attrs.text(Attr::mesh_axes).empty(), ErrorKind::user,
                 name(use.op), "a group of {} devices along \"{}\" is none", devices,
                 use.attrs.text(Attr::mesh_axes));
  return devices;
}

int64_t tensor_axis(const OpUse& use) {
  const int64_t axis = use.attrs.integer(Attr::axis);
  ESPALIER_CHECK(axis >= 0 && axis < use.inputs[0].shape.rank(), ErrorKind::user, name(use.op),
                 "axis {} is outside {}", axis, use.inputs[0].str());
  return axis;
}

void check_number(const OpUse& use) {
  ESPALIER_CHECK(use.inputs[0].dtype != DType::boolean, ErrorKind::user, name(use.op),
                 "takes numbers, got {}", use.inputs[0].str());
}

TensorType piece(const OpUse& use) {
  const int64_t devices = group(use);
  const int64_t axis = tensor_axis(use);
  TensorType out = use.inputs[0];
  ESPALIER_CHECK(out.shape[axis] % devices == 0, ErrorKind::user, name(use.op),
                 "{} devices along {} do not divide axis {} of {}", devices,
                 use.attrs.text(Attr::mesh_axes), axis, out.str());
  out.shape[axis] /= devices;
  return out;
}

}  // namespace

Types axis_index_rule(const OpUse& use) {
  group(use);
  return {{DType::i32, {}}};
}

Types shard_slice_rule(const OpUse& use) { return {piece(use)}; }

Types all_reduce_rule(const OpUse& use) {
  group(use);
  check_number(use);
  const std::string reduction = use.attrs.text_or(Attr::reduction, "sum");
  ESPALIER_CHECK(reduction == "sum" || reduction == "max", ErrorKind::user, name(use.op),
                 "reduction \"{}\" is neither sum nor max", reduction);
  return {use.inputs[0]};
}

Types all_gather_rule(const OpUse& use) {
  const int64_t devices = group(use);
  const int64_t axis = tensor_axis(use);
  TensorType out = use.inputs[0];
  out.shape[axis] = checked_mul(out.shape[axis], devices,
                                {ErrorKind::user, name(use.op), "the size of the gathered axis"});
  return {out};
}

Types reduce_scatter_rule(const OpUse& use) {
  check_number(use);
  return {piece(use)};
}

void check_piece(const OpUse& use, const Shape& local) {
  const bool has_whole = use.attrs.has(Attr::whole);
  ESPALIER_CHECK(has_whole == use.attrs.has(Attr::cut), ErrorKind::user, name(use.op),
                 "attributes whole and cut come together");
  if (!has_whole) return;
  const Shape whole(use.attrs.integers(Attr::whole));
  bool fits = whole.rank() == local.rank();
  for (int64_t i = 0; fits && i < local.rank(); ++i) {
    fits = local[i] > 0 && whole[i] % local[i] == 0;
  }
  ESPALIER_CHECK(fits, ErrorKind::user, name(use.op), "{} is no piece of {}", local.str(),
                 whole.str());
  whole.numel();  // throws when too large
}

}  // namespace espalier::ir
