// SPDX-License-Identifier: Apache-2.0
// Ops that move elements: a table of offsets into the operand, or into the result.
#include "espalier/base/error.h"
#include "espalier/interp/kernels.h"

namespace espalier::interp {

std::vector<size_t> offsets(const std::vector<int64_t>& sizes, const std::vector<int64_t>& strides,
                            int64_t base) {
  std::vector<size_t> result(static_cast<size_t>(Shape(sizes).numel()));
  std::vector<int64_t> index(sizes.size(), 0);
  int64_t offset = base;
  for (size_t& entry : result) {
    entry = static_cast<size_t>(offset);
    for (size_t axis = sizes.size(); axis-- > 0;) {
      offset += strides[axis];
      if (++index[axis] < sizes[axis]) break;
      offset -= strides[axis] * sizes[axis];
      index[axis] = 0;
    }
  }
  return result;
}

namespace {

using ir::Attr;
using ir::Op;

/// result[i] = operand[from[i]]
Elements take(const Elements& operand, const std::vector<size_t>& from) {
  Elements out(from.size());
  for (size_t i = 0; i < out.size(); ++i) out[i] = operand[from[i]];
  return out;
}

/// result[to[i]] = operand[i]
void put(const Elements& operand, const std::vector<size_t>& to, Elements& result) {
  for (size_t i = 0; i < operand.size(); ++i) result[to[i]] = operand[i];
}

int64_t inner_product(const std::vector<int64_t>& a, const std::vector<int64_t>& b) {
  int64_t sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

std::vector<Elements> broadcast(const Call& call) {
  const auto& axes = call.node.attrs.integers(Attr::axes);
  const std::vector<int64_t> from = call.shape(0).strides();
  std::vector<int64_t> strides(static_cast<size_t>(call.out().shape.rank()), 0);
  for (size_t i = 0; i < axes.size(); ++i) strides[static_cast<size_t>(axes[i])] = from[i];
  return {take(call.data(0), offsets(call.out().shape.dims(), strides))};
}

std::vector<Elements> reshape(const Call& call) { return {call.data(0)}; }

std::vector<Elements> transpose(const Call& call) {
  const std::vector<int64_t> from = call.shape(0).strides();
  std::vector<int64_t> strides;
  for (int64_t axis : call.node.attrs.integers(Attr::permutation)) {
    strides.push_back(from[static_cast<size_t>(axis)]);
  }
  return {take(call.data(0), offsets(call.out().shape.dims(), strides))};
}

std::vector<Elements> slice(const Call& call) {
  const std::vector<int64_t> strides = call.shape(0).strides();
  const int64_t base = inner_product(call.node.attrs.integers(Attr::starts), strides);
  return {take(call.data(0), offsets(call.out().shape.dims(), strides, base))};
}

std::vector<Elements> concat(const Call& call) {
  const int64_t axis = call.node.attrs.integer(Attr::axis);
  const std::vector<int64_t> strides = call.out().shape.strides();
  Elements out(static_cast<size_t>(call.out().shape.numel()));
  int64_t start = 0;
  for (size_t i = 0; i < call.in.size(); ++i) {
    const int64_t base = start * strides[static_cast<size_t>(axis)];
    put(call.data(i), offsets(call.shape(i).dims(), strides, base), out);
    start += call.shape(i)[axis];
  }
  return {std::move(out)};
}

std::vector<Elements> pad(const Call& call) {
  const std::vector<int64_t> strides = call.out().shape.strides();
  const int64_t base = inner_product(call.node.attrs.integers(Attr::low), strides);
  Elements out(static_cast<size_t>(call.out().shape.numel()), call.node.attrs.real(Attr::value));
  put(call.data(0), offsets(call.shape(0).dims(), strides, base), out);
  return {std::move(out)};
}

size_t row_of(double index, size_t position, int64_t rows) {
  ESPALIER_CHECK(index >= 0.0 && index < static_cast<double>(rows), ErrorKind::user, "interp",
                 "index {} at position {} is outside a table of {} rows", index, position, rows);
  return static_cast<size_t>(index);
}

std::vector<Elements> gather(const Call& call) {
  const auto width = static_cast<size_t>(call.shape(0)[1]);
  Elements out(static_cast<size_t>(call.out().shape.numel()));
  for (size_t i = 0; i < call.data(1).size(); ++i) {
    const size_t row = row_of(call.data(1)[i], i, call.shape(0)[0]);
    for (size_t j = 0; j < width; ++j) out[i * width + j] = call.data(0)[row * width + j];
  }
  return {std::move(out)};
}

std::vector<Elements> scatter_add(const Call& call) {
  const auto width = static_cast<size_t>(call.out().shape[1]);
  Elements out(static_cast<size_t>(call.out().shape.numel()), 0.0);
  for (size_t i = 0; i < call.data(0).size(); ++i) {
    const size_t row = row_of(call.data(0)[i], i, call.out().shape[0]);
    for (size_t j = 0; j < width; ++j) out[row * width + j] += call.data(1)[i * width + j];
  }
  return {std::move(out)};
}

}  // namespace

std::vector<KernelRow> movement_kernels() {
  return {
      {Op::broadcast, broadcast}, {Op::reshape, reshape},         {Op::transpose, transpose},
      {Op::slice, slice},         {Op::concat, concat},           {Op::pad, pad},
      {Op::gather, gather},       {Op::scatter_add, scatter_add},
  };
}

}  // namespace espalier::interp
