// SPDX-License-Identifier: Apache-2.0
#include "espalier/plan/loop_eval.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>

#include "espalier/base/error.h"
#include "espalier/base/rng.h"
#include "espalier/plan/loop_error.h"

namespace espalier::plan {
namespace {

LoopReal read_element(DType dtype, const void* base, int64_t offset) {
  const char* at = static_cast<const char*>(base) + offset * size_of(dtype);
  const auto get = [&](auto value) {
    std::memcpy(&value, at, sizeof value);
    return value;
  };
  LoopReal r;
  switch (dtype) {
    case DType::f32:
      r.value = static_cast<double>(get(float{}));
      break;
    case DType::bf16:
      r.value = static_cast<double>(from_bf16(get(uint16_t{})));
      break;
    case DType::f16:
      r.value = static_cast<double>(from_f16(get(uint16_t{})));
      break;
    case DType::f64:
      r.value = get(double{});
      break;
    case DType::i32:
      r.integer = get(int32_t{});
      break;
    case DType::i64:
      r.integer = get(int64_t{});
      break;
    case DType::u8:
      r.integer = get(uint8_t{});
      break;
    case DType::boolean:
      r.integer = get(uint8_t{}) != 0;
      break;
  }
  return r;
}

class Evaluator {
 public:
  Evaluator(const Loop& loop, const LoopCall& call, const LoopErrorModel& model)
      : loop_(loop), call_(call), model_(model) {}

  std::vector<LoopResult> run() {
    const bool flat = loop_.outer_rank == 0;
    inner_begin_ = flat ? call_.begin : 0;
    inner_end_ = flat ? call_.end : call_.inner_extent;
    for (int64_t row = flat ? 0 : call_.begin; row < (flat ? 1 : call_.end); ++row) run_row(row);
    std::vector<LoopResult> results;
    for (const auto& [at, real] : memory_) results.push_back({at.first, at.second, real});
    return results;
  }

 private:
  using Column = std::vector<LoopReal>;  // one instruction over the inner dimension

  int64_t offset(int operand, int64_t i) const {
    const int64_t* strides = call_.strides + operand * (loop_.outer_rank + 1);
    int64_t result = i * strides[loop_.outer_rank];
    for (int d = 0; d < loop_.outer_rank; ++d) result += outer_[d] * strides[d];
    return result;
  }

  void run_row(int64_t row) {
    outer_.assign(loop_.outer_rank, 0);
    for (int d = loop_.outer_rank - 1; d >= 0; --d) {
      outer_[d] = row % call_.outer_extents[d];
      row /= call_.outer_extents[d];
    }
    const int64_t n = std::max<int64_t>(inner_end_ - inner_begin_, 0);
    columns_.assign(loop_.insts.size(), Column(n));
    for (size_t k = 0; k < loop_.insts.size(); ++k) {
      const LoopInst& inst = loop_.insts[k];
      if (inst.op == LoopOp::row_sum || inst.op == LoopOp::row_max) {
        const LoopReal total = reduce(inst, columns_[inst.args[0]]);
        // Rows without elements still have a total: it is what row sinks of this row read.
        columns_[k].assign(std::max<int64_t>(n, 1), total);
      } else if (inst.op == LoopOp::store) {
        store(inst, n);
      } else if (inst.op == LoopOp::accumulate) {
        accumulate(inst, n);
      } else {
        for (int64_t i = 0; i < n; ++i) columns_[k][i] = element(inst, i);
      }
    }
  }

  LoopReal element(const LoopInst& inst, int64_t i) const {
    LoopReal args[3];
    DType types[3] = {};
    for (int a = 0; a < 3 && inst.args[a] >= 0; ++a) {
      args[a] = columns_[inst.args[a]][i];
      types[a] = loop_.insts[inst.args[a]].dtype;
    }
    switch (inst.op) {
      case LoopOp::load:
        return read_element(loop_.operands[inst.operand].dtype, call_.operands[inst.operand],
                            offset(inst.operand, inner_begin_ + i));
      case LoopOp::index: {
        LoopReal r;
        const uint64_t base = reinterpret_cast<uintptr_t>(call_.operands[inst.operand]);
        r.integer = static_cast<int64_t>(
            base + static_cast<uint64_t>(offset(inst.operand, inner_begin_ + i)));
        return r;
      }
      case LoopOp::uniform: {
        const RngKey key =
            rng_key(static_cast<uint64_t>(args[0].integer), static_cast<uint64_t>(args[1].integer),
                    static_cast<uint64_t>(call_.ids[inst.id]));
        LoopReal r;
        r.value = static_cast<double>(rng_uniform(key, static_cast<uint64_t>(args[2].integer)));
        return r;
      }
      default:
        return evaluate_op(inst, args, types, model_);
    }
  }

  LoopReal reduce(const LoopInst& inst, const Column& column) const {
    const bool real = is_float(inst.dtype);
    LoopReal total;
    if (inst.op == LoopOp::row_max) {
      total.value = -std::numeric_limits<double>::infinity();
      total.integer = inst.dtype == DType::i64 ? std::numeric_limits<int64_t>::min()
                                               : std::numeric_limits<int32_t>::min();
      for (const LoopReal& x : column) {
        total.integer = std::max(total.integer, x.integer);
        if (std::isnan(x.value) || x.value > total.value) total.value = x.value;
        total.error = std::max(total.error, x.error);
        if (std::isnan(total.value)) break;
      }
    } else {
      uint64_t sum = 0;
      double magnitude = 0.0;
      for (const LoopReal& x : column) {
        sum += static_cast<uint64_t>(x.integer);
        total.value += x.value;
        total.error += x.error;
        magnitude += std::abs(x.value) + x.error;
      }
      total.integer = static_cast<int64_t>(sum);
      const double u = inst.dtype == DType::f64 ? 0x1p-52 : 0x1p-24;
      const size_t depth = column.size() / model_.sum_lanes + 9;
      if (real) total.error += static_cast<double>(depth) * u * magnitude * 1.01;
    }
    const bool rounds = real && inst.op != LoopOp::row_max;
    return finish_op(inst.dtype, total, rounds ? LoopRounding::inexact : LoopRounding::exact);
  }

  void store(const LoopInst& inst, int64_t n) {
    const LoopOperand& operand = loop_.operands[inst.operand];
    const Column& column = columns_[inst.args[0]];
    const bool full = operand.inner != InnerStride::none;
    const int64_t count = full ? n : std::min<int64_t>(1, static_cast<int64_t>(column.size()));
    for (int64_t i = 0; i < count; ++i) {
      memory_[{inst.operand, offset(inst.operand, inner_begin_ + i)}] =
          convert_real(loop_.insts[inst.args[0]].dtype, operand.dtype, column[i]);
    }
  }

  void accumulate(const LoopInst& inst, int64_t n) {
    const LoopOperand& operand = loop_.operands[inst.operand];
    Column column = columns_[inst.args[0]];
    for (LoopReal& x : column) x = convert_real(loop_.insts[inst.args[0]].dtype, operand.dtype, x);
    if (operand.inner != InnerStride::none) {
      for (int64_t i = 0; i < n; ++i) add_to_memory(inst.operand, inner_begin_ + i, column[i]);
      return;
    }
    if (inst.space == LoopSpace::full) {
      LoopInst sum = inst;
      sum.op = LoopOp::row_sum;
      sum.dtype = operand.dtype;
      add_to_memory(inst.operand, 0, reduce(sum, column));
    } else if (!column.empty()) {
      add_to_memory(inst.operand, 0, column[0]);
    }
  }

  void add_to_memory(int operand, int64_t i, const LoopReal& x) {
    const DType dtype = loop_.operands[operand].dtype;
    const int64_t at = offset(operand, i);
    const auto [found, fresh] = memory_.try_emplace({operand, at});
    if (fresh) found->second = read_element(dtype, call_.operands[operand], at);
    LoopReal sum;
    sum.value = found->second.value + x.value;
    sum.error = found->second.error + x.error;
    found->second = finish_op(dtype, sum, LoopRounding::inexact);
  }

  const Loop& loop_;
  const LoopCall& call_;
  const LoopErrorModel& model_;
  int64_t inner_begin_ = 0;
  int64_t inner_end_ = 0;
  std::vector<int64_t> outer_;
  std::vector<Column> columns_;
  std::map<std::pair<int, int64_t>, LoopReal> memory_;
};

}  // namespace

std::vector<LoopResult> evaluate_loop(const Loop& loop, const LoopCall& call,
                                      const LoopErrorModel& model) {
  return Evaluator(loop, call, model).run();
}

}  // namespace espalier::plan
