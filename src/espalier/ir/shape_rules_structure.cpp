// SPDX-License-Identifier: Apache-2.0
#include <fmt/ranges.h>

#include <algorithm>

#include "espalier/base/checked.h"
#include "espalier/base/error.h"
#include "espalier/ir/shape_rules.h"

namespace espalier::ir {
namespace {

std::string list(const std::vector<int64_t>& values) {
  return fmt::format("[{}]", fmt::join(values, ","));
}

/// Axes must be inside the rank, strictly different from each other.
void check_axes(const OpUse& use, std::string_view what, const std::vector<int64_t>& axes,
                const TensorType& type) {
  for (size_t i = 0; i < axes.size(); ++i) {
    const bool inside = axes[i] >= 0 && axes[i] < type.shape.rank();
    const bool repeated = std::count(axes.begin(), axes.end(), axes[i]) > 1;
    ESPALIER_CHECK(inside && !repeated, ErrorKind::user, name(use.op),
                   "{} {} must be different axes of {}", what, list(axes), type.str());
  }
}

bool contains(const std::vector<int64_t>& axes, int64_t axis) {
  return std::find(axes.begin(), axes.end(), axis) != axes.end();
}

std::vector<int64_t> integers_or_none(const Attrs& attrs, Attr key) {
  return attrs.has(key) ? attrs.integers(key) : std::vector<int64_t>{};
}

}  // namespace

Types broadcast_rule(const OpUse& use) {
  const TensorType& in = use.inputs[0];
  const auto& axes = use.attrs.integers(Attr::axes);
  const TensorType out{in.dtype, Shape(use.attrs.integers(Attr::shape))};
  out.shape.numel();
  ESPALIER_CHECK(static_cast<int64_t>(axes.size()) == in.shape.rank(), ErrorKind::user,
                 name(use.op), "axes {} do not name one result axis for each axis of {}",
                 list(axes), in.str());
  check_axes(use, "axes", axes, out);
  for (size_t i = 0; i < axes.size(); ++i) {
    ESPALIER_CHECK(out.shape[axes[i]] == in.shape[static_cast<int64_t>(i)], ErrorKind::user,
                   name(use.op), "axis {} of {} does not fit axis {} of {}", i, in.str(), axes[i],
                   out.str());
    ESPALIER_CHECK(i == 0 || axes[i] > axes[i - 1], ErrorKind::user, name(use.op),
                   "axes {} must increase; transpose first", list(axes));
  }
  return {out};
}

Types reshape_rule(const OpUse& use) {
  const TensorType out{use.inputs[0].dtype, Shape(use.attrs.integers(Attr::shape))};
  ESPALIER_CHECK(out.shape.numel() == use.inputs[0].shape.numel(), ErrorKind::user, name(use.op),
                 "{} has {} elements, {} has {}", use.inputs[0].str(), use.inputs[0].shape.numel(),
                 out.shape.str(), out.shape.numel());
  return {out};
}

Types transpose_rule(const OpUse& use) {
  const TensorType& in = use.inputs[0];
  const auto& permutation = use.attrs.integers(Attr::permutation);
  ESPALIER_CHECK(static_cast<int64_t>(permutation.size()) == in.shape.rank(), ErrorKind::user,
                 name(use.op), "permutation {} does not fit {}", list(permutation), in.str());
  check_axes(use, "permutation", permutation, in);
  Shape shape;
  for (int64_t axis : permutation) shape.push_back(in.shape[axis]);
  return {{in.dtype, shape}};
}

Types slice_rule(const OpUse& use) {
  const TensorType& in = use.inputs[0];
  const auto& starts = use.attrs.integers(Attr::starts);
  const auto& limits = use.attrs.integers(Attr::limits);
  const auto rank = static_cast<size_t>(in.shape.rank());
  ESPALIER_CHECK(starts.size() == rank && limits.size() == rank, ErrorKind::user, name(use.op),
                 "starts {} and limits {} do not fit {}", list(starts), list(limits), in.str());
  Shape shape;
  for (size_t i = 0; i < rank; ++i) {
    ESPALIER_CHECK(
        0 <= starts[i] && starts[i] <= limits[i] && limits[i] <= in.shape[static_cast<int64_t>(i)],
        ErrorKind::user, name(use.op), "axis {}: [{},{}) is outside {}", i, starts[i], limits[i],
        in.str());
    shape.push_back(limits[i] - starts[i]);
  }
  return {{in.dtype, shape}};
}

Types concat_rule(const OpUse& use) {
  const int64_t axis = use.attrs.integer(Attr::axis);
  TensorType out = use.inputs[0];
  ESPALIER_CHECK(axis >= 0 && axis < out.shape.rank(), ErrorKind::user, name(use.op),
                 "axis {} is outside {}", axis, out.str());
  out.shape[axis] = 0;
  for (const TensorType& t : use.inputs) {
    TensorType same = t;
    if (axis < t.shape.rank()) same.shape[axis] = use.inputs[0].shape[axis];
    ESPALIER_CHECK(same == use.inputs[0], ErrorKind::user, name(use.op),
                   "operands differ beside axis {}: {} and {}", axis, use.inputs[0].str(), t.str());
    out.shape[axis] = checked_add(out.shape[axis], t.shape[axis],
                                  {ErrorKind::user, name(use.op), "the size of the joint axis"});
  }
  return {out};
}

Types pad_rule(const OpUse& use) {
  TensorType out = use.inputs[0];
  const auto& low = use.attrs.integers(Attr::low);
  const auto& high = use.attrs.integers(Attr::high);
  const auto rank = static_cast<size_t>(out.shape.rank());
  ESPALIER_CHECK(low.size() == rank && high.size() == rank, ErrorKind::user, name(use.op),
                 "low {} and high {} do not fit {}", list(low), list(high), out.str());
  for (size_t i = 0; i < rank; ++i) {
    ESPALIER_CHECK(low[i] >= 0 && high[i] >= 0, ErrorKind::user, name(use.op),
                   "axis {}: negative padding {}, {}", i, low[i], high[i]);
    const CheckedFor size{ErrorKind::user, name(use.op), "the padded size"};
    int64_t& padded = out.shape[static_cast<int64_t>(i)];
    padded = checked_add(padded, checked_add(low[i], high[i], size), size);
  }
  return {out};
}

Types reduce_rule(const OpUse& use) {
  const TensorType& in = use.inputs[0];
  const auto& axes = use.attrs.integers(Attr::axes);
  check_axes(use, "axes", axes, in);
  ESPALIER_CHECK(in.dtype != DType::boolean, ErrorKind::user, name(use.op), "takes numbers, got {}",
                 in.str());
  Shape shape;
  for (int64_t i = 0; i < in.shape.rank(); ++i) {
    if (!contains(axes, i)) shape.push_back(in.shape[i]);
  }
  return {{in.dtype, shape}};
}

Types dot_rule(const OpUse& use) {
  const TensorType& lhs = use.inputs[0];
  const TensorType& rhs = use.inputs[1];
  const auto lhs_batch = integers_or_none(use.attrs, Attr::lhs_batch);
  const auto rhs_batch = integers_or_none(use.attrs, Attr::rhs_batch);
  const auto& lhs_contract = use.attrs.integers(Attr::lhs_contract);
  const auto& rhs_contract = use.attrs.integers(Attr::rhs_contract);
  const bool packed = use.attrs.integer_or(Attr::packed, 0) != 0;
  ESPALIER_CHECK((lhs.dtype == rhs.dtype || packed) && is_float(lhs.dtype) && is_float(rhs.dtype),
                 ErrorKind::user, name(use.op),
                 "takes two operands of one float type: lhs {}, rhs {}", lhs.str(), rhs.str());
  ESPALIER_CHECK(packed || !use.attrs.has(Attr::rounded), ErrorKind::user, name(use.op),
                 "rounds its right operand only when it packs it");
  std::vector<int64_t> lhs_axes = lhs_batch;
  std::vector<int64_t> rhs_axes = rhs_batch;
  lhs_axes.insert(lhs_axes.end(), lhs_contract.begin(), lhs_contract.end());
  rhs_axes.insert(rhs_axes.end(), rhs_contract.begin(), rhs_contract.end());
  check_axes(use, "lhs axes", lhs_axes, lhs);
  check_axes(use, "rhs axes", rhs_axes, rhs);
  ESPALIER_CHECK(lhs_batch.size() == rhs_batch.size() && lhs_axes.size() == rhs_axes.size(),
                 ErrorKind::user, name(use.op), "lhs and rhs pair {} with {} axes", lhs_axes.size(),
                 rhs_axes.size());
  for (size_t i = 0; i < lhs_axes.size(); ++i) {
    ESPALIER_CHECK(lhs.shape[lhs_axes[i]] == rhs.shape[rhs_axes[i]], ErrorKind::user, name(use.op),
                   "{} sizes differ: lhs axis {} = {}, rhs axis {} = {} (lhs {}, rhs {})",
                   i < lhs_batch.size() ? "batch" : "inner", lhs_axes[i], lhs.shape[lhs_axes[i]],
                   rhs_axes[i], rhs.shape[rhs_axes[i]], lhs.str(), rhs.str());
  }
  Shape shape;
  for (int64_t axis : lhs_batch) shape.push_back(lhs.shape[axis]);
  for (int64_t i = 0; i < lhs.shape.rank(); ++i) {
    if (!contains(lhs_axes, i)) shape.push_back(lhs.shape[i]);
  }
  for (int64_t i = 0; i < rhs.shape.rank(); ++i) {
    if (!contains(rhs_axes, i)) shape.push_back(rhs.shape[i]);
  }
  return {{use.attrs.has(Attr::dtype) ? use.attrs.dtype(Attr::dtype) : lhs.dtype, shape}};
}

Types matmul_rule(const OpUse& use) {
  Types out = dot_rule(use);
  size_t next = 2;
  if (use.attrs.has(Attr::activation) && use.attrs.text(Attr::activation) == "swiglu") {
    ESPALIER_CHECK(next < use.inputs.size() && use.inputs[next] == use.inputs[1], ErrorKind::user,
                   name(use.op), "a swiglu has two right operands of one type, got {} and {}",
                   use.inputs[1].str(), next < use.inputs.size() ? use.inputs[next].str() : "none");
    ++next;
  }
  if (use.attrs.integer_or(Attr::bias, 0) != 0) {
    ESPALIER_CHECK(
        next < use.inputs.size() && use.inputs[next].shape.rank() == 1 && out[0].shape.rank() > 0 &&
            use.inputs[next].shape[0] == out[0].shape[out[0].shape.rank() - 1],
        ErrorKind::user, name(use.op), "the bias does not fit the last axis of {}", out[0].str());
    ++next;
  }
  if (use.attrs.integer_or(Attr::accumulate, 0) != 0) {
    ESPALIER_CHECK(next < use.inputs.size() && use.inputs[next] == out[0], ErrorKind::user,
                   name(use.op), "the addend is not of type {}", out[0].str());
    ++next;
  }
  ESPALIER_CHECK(next == use.inputs.size(), ErrorKind::user, name(use.op),
                 "{} operands, its attributes say {}", use.inputs.size(), next);
  return out;
}

Types gather_rule(const OpUse& use) {
  const TensorType& rows = use.inputs[0];
  const TensorType& indices = use.inputs[1];
  ESPALIER_CHECK(rows.shape.rank() == 2, ErrorKind::user, name(use.op),
                 "the table has rank 2, got {}", rows.str());
  ESPALIER_CHECK(!is_float(indices.dtype) && indices.dtype != DType::boolean, ErrorKind::user,
                 name(use.op), "indices are integers, got {}", indices.str());
  Shape shape = indices.shape;
  shape.push_back(rows.shape[1]);
  return {{rows.dtype, shape}};
}

Types scatter_add_rule(const OpUse& use) {
  const TensorType& indices = use.inputs[0];
  const TensorType& updates = use.inputs[1];
  ESPALIER_CHECK(!is_float(indices.dtype) && indices.dtype != DType::boolean, ErrorKind::user,
                 name(use.op), "indices are integers, got {}", indices.str());
  Shape want = indices.shape;
  const int64_t rank = updates.shape.rank();
  if (rank > 0) want.push_back(updates.shape[rank - 1]);
  ESPALIER_CHECK(rank > 0 && want == updates.shape, ErrorKind::user, name(use.op),
                 "updates {} are not one row for each index of {}", updates.str(), indices.str());
  return {{updates.dtype, Shape{use.attrs.integer(Attr::rows), updates.shape[rank - 1]}}};
}

}  // namespace espalier::ir
