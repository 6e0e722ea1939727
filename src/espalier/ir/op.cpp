// SPDX-License-Identifier: Apache-2.0
#include "espalier/ir/op.h"

#include <algorithm>
#include <array>

#include "espalier/base/error.h"
#include "espalier/ir/shape_rules.h"

namespace espalier::ir {
namespace {

constexpr uint32_t kUnary = kElementwise;
constexpr uint32_t kBinary = kElementwise;
constexpr uint32_t kSymmetric = kElementwise | kCommutative;
constexpr uint32_t kCompare = kElementwise | kComparison;

const std::vector<OpInfo>& table() {
  // clang-format off
  using A = Attr;
  // op, name, operands min and max, required attributes, optional attributes, shape rule, traits
  static const std::vector<OpInfo> rows{
      {Op::input, "input", 0, 0, {A::name, A::role}, {}, nullptr, kLeaf},
      {Op::constant, "constant", 0, 0, {A::value, A::dtype, A::shape}, {}, leaf_rule, kLeaf},
      {Op::iota, "iota", 0, 0, {A::axis, A::dtype, A::shape}, {}, iota_rule, kLeaf},
      {Op::random_uniform, "random_uniform", 2, 3, {A::shape, A::id},
       {A::whole, A::cut, A::remat}, random_rule, 0},

      {Op::convert, "convert", 1, 1, {A::dtype}, {A::remat}, convert_rule, kUnary},
      {Op::neg, "neg", 1, 1, {}, {A::remat}, same_rule, kUnary},
      {Op::abs, "abs", 1, 1, {}, {A::remat}, same_rule, kUnary},
      {Op::exp, "exp", 1, 1, {}, {A::remat}, float_rule, kUnary},
      {Op::log, "log", 1, 1, {}, {A::remat}, float_rule, kUnary},
      {Op::sqrt, "sqrt", 1, 1, {}, {A::remat}, float_rule, kUnary},
      {Op::rsqrt, "rsqrt", 1, 1, {}, {A::remat}, float_rule, kUnary},
      {Op::tanh, "tanh", 1, 1, {}, {A::remat}, float_rule, kUnary},
      {Op::erf, "erf", 1, 1, {}, {A::remat}, float_rule, kUnary},
      {Op::sin, "sin", 1, 1, {}, {A::remat}, float_rule, kUnary},
      {Op::cos, "cos", 1, 1, {}, {A::remat}, float_rule, kUnary},
      {Op::floor, "floor", 1, 1, {}, {A::remat}, float_rule, kUnary},
      {Op::logical_not, "logical_not", 1, 1, {}, {A::remat}, logical_rule, kUnary},
      {Op::stop_gradient, "stop_gradient", 1, 1, {}, {A::remat}, same_rule, kUnary},

      {Op::add, "add", 2, 2, {}, {A::remat}, same_rule, kSymmetric},
      {Op::sub, "sub", 2, 2, {}, {A::remat}, same_rule, kBinary},
      {Op::mul, "mul", 2, 2, {}, {A::remat}, same_rule, kSymmetric},
      {Op::div, "div", 2, 2, {}, {A::remat}, same_rule, kBinary},
      {Op::max, "max", 2, 2, {}, {A::remat}, same_rule, kSymmetric},
      {Op::min, "min", 2, 2, {}, {A::remat}, same_rule, kSymmetric},
      {Op::pow, "pow", 2, 2, {}, {A::remat}, float_rule, kBinary},
      {Op::eq, "eq", 2, 2, {}, {A::remat}, compare_rule, kCompare | kCommutative},
      {Op::ne, "ne", 2, 2, {}, {A::remat}, compare_rule, kCompare | kCommutative},
      {Op::lt, "lt", 2, 2, {}, {A::remat}, compare_rule, kCompare},
      {Op::le, "le", 2, 2, {}, {A::remat}, compare_rule, kCompare},
      {Op::gt, "gt", 2, 2, {}, {A::remat}, compare_rule, kCompare},
      {Op::ge, "ge", 2, 2, {}, {A::remat}, compare_rule, kCompare},
      {Op::logical_and, "logical_and", 2, 2, {}, {A::remat}, logical_rule, kSymmetric},
      {Op::logical_or, "logical_or", 2, 2, {}, {A::remat}, logical_rule, kSymmetric},
      {Op::select, "select", 3, 3, {}, {A::remat}, select_rule, kElementwise},

      {Op::broadcast, "broadcast", 1, 1, {A::shape, A::axes}, {A::remat}, broadcast_rule, kView},
      {Op::reshape, "reshape", 1, 1, {A::shape}, {A::remat}, reshape_rule, kView},
      {Op::transpose, "transpose", 1, 1, {A::permutation}, {A::remat}, transpose_rule, kView},
      {Op::slice, "slice", 1, 1, {A::starts, A::limits}, {A::remat}, slice_rule, kView},
      {Op::concat, "concat", 1, -1, {A::axis}, {A::remat}, concat_rule, 0},
      {Op::pad, "pad", 1, 1, {A::low, A::high, A::value}, {A::remat}, pad_rule, 0},

      {Op::reduce_sum, "reduce_sum", 1, 1, {A::axes}, {A::remat}, reduce_rule, kReduction},
      {Op::reduce_max, "reduce_max", 1, 1, {A::axes}, {A::remat}, reduce_rule, kReduction},
      {Op::dot, "dot", 2, 2, {A::lhs_contract, A::rhs_contract},
       {A::lhs_batch, A::rhs_batch, A::dtype, A::packed, A::rounded, A::remat}, dot_rule, 0},

      {Op::gather, "gather", 2, 2, {}, {A::remat}, gather_rule, 0},
      {Op::scatter_add, "scatter_add", 2, 2, {A::rows}, {A::remat}, scatter_add_rule, 0},

      {Op::layer_norm, "layer_norm", 3, 3, {A::epsilon}, {A::remat}, layer_norm_rule, kComposite},
      {Op::rms_norm, "rms_norm", 2, 2, {A::epsilon}, {A::remat}, rms_norm_rule, kComposite},
      {Op::softmax, "softmax", 1, 1, {}, {A::remat}, softmax_rule, kComposite},
      {Op::softmax_cross_entropy, "softmax_cross_entropy", 2, 2, {}, {A::remat},
       cross_entropy_rule, kComposite},
      {Op::attention, "attention", 3, 9, {A::scale},
       {A::causal, A::rate, A::id, A::key_mask, A::segments, A::dtype, A::whole, A::cut, A::remat},
       attention_rule, kComposite},
      {Op::attention_grad, "attention_grad", 6, 12, {A::scale},
       {A::causal, A::rate, A::id, A::key_mask, A::segments, A::whole, A::cut, A::remat},
       attention_grad_rule, 0},

      {Op::axis_index, "axis_index", 0, 0, {A::mesh_axes, A::devices}, {}, axis_index_rule, kMesh},
      {Op::shard_slice, "shard_slice", 1, 1, {A::mesh_axes, A::devices, A::axis}, {A::name},
       shard_slice_rule, kMesh},
      {Op::all_reduce, "all_reduce", 1, 1, {A::mesh_axes, A::devices}, {A::reduction, A::name},
       all_reduce_rule, kMesh},
      {Op::all_gather, "all_gather", 1, 1, {A::mesh_axes, A::devices, A::axis},
       {A::name, A::remat}, all_gather_rule, kMesh},
      {Op::reduce_scatter, "reduce_scatter", 1, 1, {A::mesh_axes, A::devices, A::axis}, {A::name},
       reduce_scatter_rule, kMesh},

      {Op::fusion, "fusion", 0, -1, {A::body}, {}, nullptr, 0},
      {Op::matmul, "matmul", 2, 4, {A::lhs_contract, A::rhs_contract},
       {A::lhs_batch, A::rhs_batch, A::dtype, A::activation, A::bias, A::accumulate, A::packed,
        A::rounded, A::remat},
       matmul_rule, 0},
  };
  // clang-format on
  return rows;
}

}  // namespace

const OpInfo& info(Op op) { return table()[static_cast<size_t>(op)]; }

std::optional<Op> parse_op(std::string_view text) {
  for (const OpInfo& row : table()) {
    if (row.name == text) return row.op;
  }
  return std::nullopt;
}

std::string TensorType::str() const {
  return fmt::format("{}{}", espalier::name(dtype), shape.str());
}

void check_use(const OpUse& use) {
  const OpInfo& row = info(use.op);
  const auto count = static_cast<int>(use.inputs.size());
  ESPALIER_CHECK(count >= row.min_inputs && (row.max_inputs < 0 || count <= row.max_inputs),
                 ErrorKind::user, row.name, "takes {}{} operands, got {}", row.min_inputs,
                 row.max_inputs == row.min_inputs ? ""
                 : row.max_inputs < 0             ? " or more"
                                                  : fmt::format(" to {}", row.max_inputs),
                 count);
  for (Attr attr : row.required) {
    ESPALIER_CHECK(use.attrs.has(attr), ErrorKind::user, row.name, "attribute {} is missing",
                   name(attr));
  }
  for (const auto& [attr, value] : use.attrs) {
    const bool known = std::count(row.required.begin(), row.required.end(), attr) > 0 ||
                       std::count(row.optional.begin(), row.optional.end(), attr) > 0;
    ESPALIER_CHECK(known, ErrorKind::user, row.name, "attribute {} is not one of this op",
                   name(attr));
  }
}

std::vector<TensorType> infer_types(const OpUse& use) {
  check_use(use);
  const OpInfo& row = info(use.op);
  ESPALIER_CHECK(row.rule != nullptr, ErrorKind::internal, row.name, "types are not derived");
  std::vector<TensorType> types = row.rule(use);
  for (const TensorType& type : types) type.shape.numel();  // throws when too large
  return types;
}

}  // namespace espalier::ir
