// SPDX-License-Identifier: Apache-2.0
#include "espalier/plan/loop.h"

#include <fmt/format.h>

#include <array>
#include <bit>

namespace espalier::plan {
namespace {

// clang-format off
// op, name, number of arguments
constexpr std::array<LoopOpInfo, kLoopOpCount> kTable{{
    {LoopOp::load, "load", 0},
    {LoopOp::constant, "constant", 0},
    {LoopOp::index, "index", 0},
    {LoopOp::convert, "convert", 1},
    {LoopOp::neg, "neg", 1},
    {LoopOp::abs, "abs", 1},
    {LoopOp::exp, "exp", 1},
    {LoopOp::log, "log", 1},
    {LoopOp::sqrt, "sqrt", 1},
    {LoopOp::rsqrt, "rsqrt", 1},
    {LoopOp::tanh, "tanh", 1},
    {LoopOp::erf, "erf", 1},
    {LoopOp::sin, "sin", 1},
    {LoopOp::cos, "cos", 1},
    {LoopOp::floor, "floor", 1},
    {LoopOp::logical_not, "logical_not", 1},
    {LoopOp::add, "add", 2},
    {LoopOp::sub, "sub", 2},
    {LoopOp::mul, "mul", 2},
    {LoopOp::div, "div", 2},
    {LoopOp::max, "max", 2},
    {LoopOp::min, "min", 2},
    {LoopOp::pow, "pow", 2},
    {LoopOp::eq, "eq", 2},
    {LoopOp::ne, "ne", 2},
    {LoopOp::lt, "lt", 2},
    {LoopOp::le, "le", 2},
    {LoopOp::gt, "gt", 2},
    {LoopOp::ge, "ge", 2},
    {LoopOp::logical_and, "logical_and", 2},
    {LoopOp::logical_or, "logical_or", 2},
    {LoopOp::select, "select", 3},
    {LoopOp::uniform, "uniform", 3},
    {LoopOp::row_sum, "row_sum", 1},
    {LoopOp::row_max, "row_max", 1},
    {LoopOp::store, "store", 1},
    {LoopOp::accumulate, "accumulate", 1},
}};
// clang-format on

}  // namespace

const LoopOpInfo& info(LoopOp op) { return kTable[static_cast<size_t>(op)]; }

std::string Loop::key() const {
  std::string text = fmt::format("r{}", outer_rank);
  for (const LoopOperand& o : operands) {
    text += fmt::format(";o{}{}{}{}", static_cast<int>(o.role), name(o.dtype),
                        o.varies_outer ? 'v' : '-', static_cast<int>(o.inner));
  }
  for (const LoopInst& i : insts) {
    text += fmt::format(";{}:{}s{}", info(i.op).name, name(i.dtype), static_cast<int>(i.space));
    for (int32_t a : i.args) {
      if (a >= 0) text += fmt::format(",{}", a);
    }
    if (i.operand >= 0) text += fmt::format("@{}", i.operand);
    if (i.op == LoopOp::constant) text += fmt::format("={:x}", std::bit_cast<uint64_t>(i.value));
    if (i.op == LoopOp::uniform) text += fmt::format("#{}", i.id);
  }
  return text;
}

}  // namespace espalier::plan
