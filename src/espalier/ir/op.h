// SPDX-License-Identifier: Apache-2.0
// The op table: one row an op with its name, operands, attributes, shape rule and traits.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/ir/attr.h"
#include "espalier/tensor/shape.h"

namespace espalier::ir {

// clang-format off
enum class Op : uint8_t {
  // Leaves.
  input, constant, iota, random_uniform,
  // Elementwise.
  convert, neg, abs, exp, log, sqrt, rsqrt, tanh, erf, sin, cos, floor, logical_not, stop_gradient,
  add, sub, mul, div, max, min, pow,
  eq, ne, lt, le, gt, ge, logical_and, logical_or,
  select,
  // Data movement.
  broadcast, reshape, transpose, slice, concat, pad,
  // Reductions and contractions.
  reduce_sum, reduce_max, dot,
  // Rows of a table.
  gather, scatter_add,
  // Composites: a decomposition into the ops above, and a fast kernel for some.
  layer_norm, rms_norm, softmax, softmax_cross_entropy, attention, attention_grad,
  // On a mesh of devices, where every device runs this graph on its own pieces.
  axis_index, shard_slice, all_reduce, all_gather, reduce_scatter,
  // Made by passes.
  fusion, matmul,
};
// clang-format on
inline constexpr int kOpCount = static_cast<int>(Op::matmul) + 1;

/// dtype and shape of a value, "f32[2,3]".
struct TensorType {
  DType dtype = DType::f32;
  Shape shape;
  std::string str() const;
  friend bool operator==(const TensorType&, const TensorType&) = default;
};

enum Trait : uint32_t {
  kElementwise = 1u << 0,  // result element i depends on operand elements i only
  kCommutative = 1u << 1,
  kView = 1u << 2,  // moves elements, computes nothing
  kReduction = 1u << 3,
  kComposite = 1u << 4,  // passes/decompose knows an equal subgraph
  kLeaf = 1u << 5,
  kComparison = 1u << 6,  // bool result
  kMesh = 1u << 7,        // means something on a mesh of devices only
};

/// What a shape rule sees. Rules throw `user` errors that name the op and the types.
struct OpUse {
  Op op;
  std::span<const TensorType> inputs;
  const Attrs& attrs;
};
using ShapeRule = std::vector<TensorType> (*)(const OpUse&);

struct OpInfo {
  Op op;
  std::string_view name;
  int min_inputs;
  int max_inputs;  // -1: any number
  std::vector<Attr> required;
  std::vector<Attr> optional;
  ShapeRule rule;
  uint32_t traits;
};

const OpInfo& info(Op op);
inline std::string_view name(Op op) { return info(op).name; }
inline bool has_trait(Op op, Trait trait) { return (info(op).traits & trait) != 0; }
std::optional<Op> parse_op(std::string_view text);

/// Checks the number of operands and which attributes are there; throws `user`.
void check_use(const OpUse& use);
/// Result types of an op use, after checking arity, attributes and shapes.
std::vector<TensorType> infer_types(const OpUse& use);

}  // namespace espalier::ir
