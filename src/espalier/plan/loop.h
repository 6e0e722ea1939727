// SPDX-License-Identifier: Apache-2.0
// Loop IR: what one fused loop computes, without sizes and without a machine.
//
// A loop runs over `outer_rank` outer dimensions and one inner dimension. Its instructions are a
// list in topological order; each is evaluated for every point of its space:
//   uniform  one value for the whole loop          (scalars: learning rate, seed, constants)
//   row      one value per outer index             (mean, rstd, log-sum-exp, per-row inputs)
//   full     one value per (outer index, inner index)
// A row reduction (row_sum, row_max) turns full values into a row value, so what uses it runs in a
// later sweep over the same inner dimension. Sizes and strides are arguments of the call: one
// compiled loop serves every layer and every batch size of the same structure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/tensor/dtype.h"

namespace espalier::plan {

// clang-format off
enum class LoopOp : uint8_t {
  // Leaves.
  load,      // operand
  constant,  // immediate
  index,     // operand of role index: base + sum(stride_d * i_d), an i64 value
  // Elementwise. The result is rounded to the instruction's dtype.
  convert, neg, abs, exp, log, sqrt, rsqrt, tanh, erf, sin, cos, floor, logical_not,
  add, sub, mul, div, max, min, pow,
  eq, ne, lt, le, gt, ge, logical_and, logical_or,
  select,   // args: condition, value where true, value where false
  uniform,  // args: seed (i64, uniform), step (i64, uniform), index (i64); id: the stream.
            // f32 in [0,1): rng_uniform(rng_key(seed, step, id), index) of base/rng.h
  // Row reductions: full -> row. f32 (f64 for f64) accumulation over the inner dimension.
  row_sum, row_max,
  // Sinks.
  store,       // operand[...] = args[0]
  accumulate,  // operand[...] += args[0]; operand strides are 0 along the summed dimensions
};
// clang-format on
inline constexpr int kLoopOpCount = static_cast<int>(LoopOp::accumulate) + 1;

struct LoopOpInfo {
  LoopOp op;
  std::string_view name;  // elementwise: that of the ir op it computes
  int args;
};
const LoopOpInfo& info(LoopOp op);

enum class LoopSpace : uint8_t { uniform, row, full };
enum class InnerStride : uint8_t { none, unit, strided };
enum class OperandRole : uint8_t { input, output, accumulator, index };

/// A buffer (or, for role index, an affine integer) addressed by strides given at the call.
/// Two operands may name the same memory only with equal strides (in-place update).
struct LoopOperand {
  OperandRole role = OperandRole::input;
  DType dtype = DType::f32;               // of the memory; accumulators are f32 or f64
  bool varies_outer = true;               // false: every outer stride is 0
  InnerStride inner = InnerStride::unit;  // none: stride 0; unit: 1; strided: given at the call

  LoopSpace space() const {
    if (inner != InnerStride::none) return LoopSpace::full;
    return varies_outer ? LoopSpace::row : LoopSpace::uniform;
  }
  friend bool operator==(const LoopOperand&, const LoopOperand&) = default;
};

/// Registers hold f32 for f32/bf16/f16 (a bf16 or f16 result is rounded, then widened again), f64,
/// i32 for u8 and i32, i64, and i1 for bool. Loads widen, stores narrow.
struct LoopInst {
  LoopOp op = LoopOp::constant;
  DType dtype = DType::f32;  // of the result; of the stored value for sinks
  LoopSpace space = LoopSpace::full;
  int32_t args[3] = {-1, -1, -1};  // earlier instructions
  int32_t operand = -1;            // load, index, store, accumulate
  double value = 0.0;              // constant
  int64_t id = 0;                  // uniform: stream id. Passed at the call (see LoopCall::ids),
                                   // not part of the structure: this is its position in that list.
};

struct Loop {
  int32_t outer_rank = 0;  // 0: flat, the call's range is over the inner dimension
  std::vector<LoopOperand> operands;
  std::vector<LoopInst> insts;

  /// Canonical text of the structure: equal text, equal code. Key of the kernel cache. It names ops
  /// rather than number them, so that a new one does not give the kernels of another to old keys.
  std::string key() const;
};

/// Arguments of one call of a compiled loop. A loop with outer_rank > 0 runs the flattened outer
/// indices [begin, end) over the whole inner dimension; a flat loop the inner indices [begin, end).
struct LoopCall {
  void* const* operands;         // per operand; for role index the pointer value is the base
  const int64_t* outer_extents;  // [outer_rank]
  int64_t inner_extent;
  const int64_t* strides;  // [operand][outer_rank + 1] in elements; last: inner stride
  const int64_t* ids;      // random stream ids, by LoopInst::id
  int64_t begin;
  int64_t end;
  void* scratch;  // of this thread: scratch_bytes(loop, inner_extent), 64-aligned
};

}  // namespace espalier::plan
