// SPDX-License-Identifier: Apache-2.0
// Reductions, dot and matmul.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "espalier/base/error.h"
#include "espalier/interp/kernels.h"

namespace espalier::interp {
namespace {

using ir::Attr;
using ir::Op;

bool contains(const std::vector<int64_t>& axes, int64_t axis) {
  return std::find(axes.begin(), axes.end(), axis) != axes.end();
}

/// For every element of the operand, the element of the result it belongs to.
std::vector<size_t> reduced_offsets(const Call& call) {
  const auto& axes = call.node.attrs.integers(Attr::axes);
  const std::vector<int64_t> to = call.out().shape.strides();
  std::vector<int64_t> strides;
  size_t kept = 0;
  for (int64_t i = 0; i < call.shape(0).rank(); ++i) {
    strides.push_back(contains(axes, i) ? 0 : to[kept++]);
  }
  return offsets(call.shape(0).dims(), strides);
}

std::vector<Elements> reduce_sum(const Call& call) {
  Elements out(static_cast<size_t>(call.out().shape.numel()), 0.0);
  const std::vector<size_t> to = reduced_offsets(call);
  for (size_t i = 0; i < to.size(); ++i) out[to[i]] += call.data(0)[i];
  return {std::move(out)};
}

/// The maximum of nothing is the lowest value of the type: -inf for floats.
double lowest(DType dtype) {
  switch (dtype) {
    case DType::i32:
      return std::numeric_limits<int32_t>::min();
    case DType::i64:
      return static_cast<double>(std::numeric_limits<int64_t>::min());
    case DType::u8:
      return 0.0;
    default:
      return -std::numeric_limits<double>::infinity();
  }
}

std::vector<Elements> reduce_max(const Call& call) {
  Elements out(static_cast<size_t>(call.out().shape.numel()), lowest(call.out().dtype));
  const std::vector<size_t> to = reduced_offsets(call);
  for (size_t i = 0; i < to.size(); ++i) {
    const double x = call.data(0)[i];
    if (x > out[to[i]] || std::isnan(x)) out[to[i]] = x;
  }
  return {std::move(out)};
}

/// Offsets of one operand's axes, split by what a dot does with them.
struct DotOperand {
  std::vector<size_t> batch, free, inner;
};

DotOperand split(const Shape& shape, const std::vector<int64_t>& batch,
                 const std::vector<int64_t>& inner) {
  const std::vector<int64_t> strides = shape.strides();
  const auto table = [&](const std::vector<int64_t>& axes) {
    std::vector<int64_t> sizes, steps;
    for (int64_t axis : axes) {
      sizes.push_back(shape[axis]);
      steps.push_back(strides[static_cast<size_t>(axis)]);
    }
    return offsets(sizes, steps);
  };
  std::vector<int64_t> free;
  for (int64_t i = 0; i < shape.rank(); ++i) {
    if (!contains(batch, i) && !contains(inner, i)) free.push_back(i);
  }
  return {table(batch), table(free), table(inner)};
}

/// The product with operand `second` on the right.
Elements product(const Call& call, size_t second) {
  const ir::Attrs& attrs = call.node.attrs;
  const auto axes = [&](Attr key) {
    return attrs.has(key) ? attrs.integers(key) : std::vector<int64_t>{};
  };
  const DotOperand lhs = split(call.shape(0), axes(Attr::lhs_batch), axes(Attr::lhs_contract));
  const DotOperand rhs = split(call.shape(1), axes(Attr::rhs_batch), axes(Attr::rhs_contract));
  Elements right = call.data(second);
  if (attrs.has(Attr::rounded)) {
    for (double& x : right) x = round_to(attrs.dtype(Attr::rounded), x);
  }
  Elements out;
  out.reserve(static_cast<size_t>(call.out().shape.numel()));
  for (size_t batch = 0; batch < lhs.batch.size(); ++batch) {
    for (size_t row : lhs.free) {
      const double* a = call.data(0).data() + lhs.batch[batch] + row;
      for (size_t column : rhs.free) {
        const double* b = right.data() + rhs.batch[batch] + column;
        double sum = 0.0;
        for (size_t k = 0; k < lhs.inner.size(); ++k) sum += a[lhs.inner[k]] * b[rhs.inner[k]];
        out.push_back(sum);
      }
    }
  }
  return out;
}

std::vector<Elements> dot(const Call& call) { return {product(call, 1)}; }

double activate(const std::string& kind, double x) {
  if (kind == "relu") return x > 0.0 || std::isnan(x) ? x : 0.0;
  if (kind == "gelu") return 0.5 * x * (1.0 + std::erf(x / std::numbers::sqrt2));
  if (kind == "gelu_tanh") {
    const double c = std::sqrt(2.0 / std::numbers::pi);
    return 0.5 * x * (1.0 + std::tanh(c * (x + 0.044715 * x * x * x)));
  }
  fail(ErrorKind::internal, "matmul", "no activation {}", kind);
}

/// activation(dot + bias + addend); swiglu: silu(dot) * (dot with the second right operand)
std::vector<Elements> matmul(const Call& call) {
  std::vector<Elements> out = dot(call);
  const ir::Attrs& attrs = call.node.attrs;
  size_t next = 2;
  if (attrs.text_or(Attr::activation, "") == "swiglu") {
    const Elements second = product(call, next++);
    for (size_t i = 0; i < out[0].size(); ++i) {
      out[0][i] *= second[i] / (1.0 + std::exp(-out[0][i]));
    }
    return out;
  }
  if (attrs.integer_or(Attr::bias, 0) != 0) {
    const Elements& bias = call.data(next++);
    for (size_t i = 0; i < out[0].size(); ++i) out[0][i] += bias[i % bias.size()];
  }
  if (attrs.integer_or(Attr::accumulate, 0) != 0) {
    const Elements& addend = call.data(next++);
    for (size_t i = 0; i < out[0].size(); ++i) out[0][i] += addend[i];
  }
  if (attrs.has(Attr::activation)) {
    for (double& x : out[0]) x = activate(attrs.text(Attr::activation), x);
  }
  return out;
}

}  // namespace

std::vector<KernelRow> contraction_kernels() {
  return {{Op::reduce_sum, reduce_sum},
          {Op::reduce_max, reduce_max},
          {Op::dot, dot},
          {Op::matmul, matmul}};
}

}  // namespace espalier::interp
