// SPDX-License-Identifier: Apache-2.0
// Random loops against the evaluator: any mix of types, spaces, sweeps and sinks.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "tests/backend_jit/loop_case.h"

namespace espalier::cpu {
namespace {

using plan::InnerStride;
using plan::LoopOp;
using plan::LoopSpace;

class LoopMaker {
 public:
  explicit LoopMaker(uint64_t seed) : random_(seed), b_(static_cast<int>(pick(4))) {}

  plan::Loop make() {
    seed_ = leaf(DType::i64, InnerStride::none, false);
    for (int i = 0; i < 3; ++i) random_leaf();
    const int count = 3 + static_cast<int>(pick(22));
    for (int i = 0; i < count; ++i) add();
    const int sinks = 1 + static_cast<int>(pick(3));
    for (int i = 0; i < sinks; ++i) sink();
    return b_.loop;
  }

 private:
  struct Value {
    int inst;
    DType dtype;
    LoopSpace space;
  };

  uint64_t pick(uint64_t count) { return random_() % count; }
  bool chance(int percent) { return pick(100) < static_cast<uint64_t>(percent); }

  int remember(int inst, LoopSpace space) {
    values_.push_back({inst, b_.loop.insts[inst].dtype, space});
    return inst;
  }

  int leaf(DType dtype, InnerStride inner, bool varies) {
    const int inst = b_.load(dtype, inner, varies);
    return remember(inst, b_.loop.operands.back().space());
  }

  void random_leaf() {
    constexpr DType types[] = {DType::f32, DType::f32, DType::f32, DType::bf16,   DType::f16,
                               DType::f64, DType::i32, DType::u8,  DType::boolean};
    const DType dtype = types[pick(9)];
    const uint64_t kind = pick(10);
    if (kind == 0) {
      remember(b_.constant(dtype, static_cast<double>(pick(9)) - 4.0), LoopSpace::uniform);
    } else if (kind == 1) {
      const int inst = b_.index(chance(50), chance(80) ? InnerStride::unit : InnerStride::strided);
      remember(inst, LoopSpace::full);
    } else if (kind == 2) {
      leaf(dtype, InnerStride::none, chance(60));
    } else {
      leaf(dtype, chance(80) ? InnerStride::unit : InnerStride::strided, chance(70));
    }
  }

  const Value& any() { return values_[pick(values_.size())]; }
  const Value& of(DType dtype) {
    std::vector<const Value*> fits;
    for (const Value& v : values_) {
      if (v.dtype == dtype) fits.push_back(&v);
    }
    return *fits[pick(fits.size())];
  }
  const Value& number() {
    for (;;) {
      const Value& v = any();
      if (v.dtype != DType::boolean) return v;
    }
  }

  void add() {
    const uint64_t kind = pick(12);
    if (kind == 0) return random_leaf();
    if (kind == 1) {
      constexpr DType types[] = {DType::f32, DType::bf16, DType::f16,    DType::f64,
                                 DType::i32, DType::i64,  DType::boolean};
      const Value v = any();
      remember(b_.convert(v.inst, types[pick(7)]), v.space);
      return;
    }
    if (kind == 2 && b_.loop.outer_rank > 0) {
      const Value v = number();
      if (v.space != LoopSpace::full) return;
      const LoopOp op = chance(50) ? LoopOp::row_sum : LoopOp::row_max;
      remember(b_.op(op, v.inst), LoopSpace::row);
      return;
    }
    if (kind == 3) {
      const Value index = of(DType::i64);
      remember(b_.uniform(seed_, seed_, index.inst, static_cast<int64_t>(pick(4))), index.space);
      return;
    }
    if (kind == 4) {
      const Value v = number(), w = of(v.dtype);
      constexpr LoopOp ops[] = {LoopOp::eq, LoopOp::ne, LoopOp::lt,
                                LoopOp::le, LoopOp::gt, LoopOp::ge};
      const int bit = b_.compare(ops[pick(6)], v.inst, w.inst);
      remember(bit, std::max(v.space, w.space));
      const Value y = of(v.dtype);
      remember(b_.inst(LoopOp::select, v.dtype, {bit, v.inst, y.inst}),
               std::max({v.space, w.space, y.space}));
      return;
    }
    if (kind == 5) {
      const Value v = number();
      if (!is_float(v.dtype)) return;
      constexpr LoopOp ops[] = {LoopOp::exp,  LoopOp::tanh,  LoopOp::erf,
                                LoopOp::sin,  LoopOp::cos,   LoopOp::floor,
                                LoopOp::sqrt, LoopOp::rsqrt, LoopOp::log};
      const LoopOp op = ops[pick(9)];
      int x = v.inst;
      if (op == LoopOp::sqrt || op == LoopOp::rsqrt || op == LoopOp::log) x = b_.op(LoopOp::abs, x);
      remember(b_.op(op, x), v.space);
      return;
    }
    const Value v = number(), w = of(v.dtype);
    constexpr LoopOp ops[] = {LoopOp::add, LoopOp::sub, LoopOp::mul,
                              LoopOp::div, LoopOp::max, LoopOp::min};
    remember(b_.op(ops[pick(6)], v.inst, w.inst), std::max(v.space, w.space));
  }

  void sink() {
    const Value v = values_[values_.size() - 1 - pick(std::min<size_t>(values_.size(), 6))];
    const bool flat = b_.loop.outer_rank == 0;
    if (is_float(v.dtype) && chance(30) && !(flat && v.space != LoopSpace::full)) {
      const DType memory = chance(70) ? DType::f32 : DType::f64;
      if (v.space == LoopSpace::full) {
        const InnerStride inner = chance(50) ? InnerStride::unit : InnerStride::none;
        b_.accumulate(v.inst, memory, inner, chance(50));
      } else {
        b_.accumulate(v.inst, memory, InnerStride::none, chance(50), LoopSpace::row);
      }
      return;
    }
    DType memory = v.dtype;
    if (memory == DType::f32 && chance(30)) memory = chance(50) ? DType::bf16 : DType::f16;
    const bool row = v.space == LoopSpace::row && chance(70);
    const InnerStride inner = row          ? InnerStride::none
                              : chance(80) ? InnerStride::unit
                                           : InnerStride::strided;
    b_.store(v.inst, memory, inner);
  }

  std::mt19937_64 random_;
  LoopBuilder b_;
  std::vector<Value> values_;
  int seed_ = -1;
};

}  // namespace

TEST(Fuzz, RandomLoopsMeanWhatTheEvaluatorSays) {
  constexpr int kLoops = 160;
  constexpr int64_t kInner[] = {1, 7, 8, 9, 31, 64, 100};
  int checked = 0;
  std::vector<plan::Loop> loops;
  for (int seed = 1; seed <= kLoops; ++seed) {
    loops.push_back(LoopMaker(static_cast<uint64_t>(seed)).make());
  }
  for (const int width : {0, 16}) {
    const std::vector<LoopFn> functions = compiler(width).compile(loops);
    for (int k = 0; k < kLoops; ++k) {
      const plan::Loop& loop = loops[k];
      LoopCase::Options options;
      options.seed = static_cast<uint64_t>(k) + 1;
      options.transposed = k % 2 == 1;
      options.scale = k % 3 == 0 ? 20.0 : 1.0;
      LoopCase c(loop, std::vector<int64_t>(loop.outer_rank, 2), kInner[k % 7], options);
      ASSERT_EQ(c.check(functions[k]), "") << "seed " << k + 1 << " width " << width;
      // A flat accumulator adds once per piece: another order of the same sum.
      if (loop.outer_rank > 0) {
        const auto whole = c.run(functions[k]);
        ASSERT_EQ(c.run(functions[k], 1), whole) << "seed " << k + 1 << " in pieces";
      }
      ++checked;
    }
  }
  std::printf("%d loops\n", checked);
}

}  // namespace espalier::cpu
