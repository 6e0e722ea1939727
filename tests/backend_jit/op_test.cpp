// SPDX-License-Identifier: Apache-2.0
// Every operation on every dtype, every way to address an operand, against the evaluator.
#include <gtest/gtest.h>

#include <cmath>

#include "espalier/base/error.h"
#include "espalier/plan/lower_loop.h"
#include "tests/backend_jit/loop_case.h"

namespace espalier::cpu {
namespace {

using plan::InnerStride;
using plan::LoopOp;
using plan::LoopSpace;

constexpr DType kTypes[] = {DType::f32, DType::bf16, DType::f16, DType::f64,
                            DType::i32, DType::i64,  DType::u8,  DType::boolean};
constexpr DType kFloats[] = {DType::f32, DType::bf16, DType::f16, DType::f64};

bool is_unary_function(LoopOp op) { return op >= LoopOp::exp && op <= LoopOp::floor; }

/// `op` on `dtype`, or nothing where the op does not take the type.
bool build(LoopBuilder& b, LoopOp op, DType dtype) {
  const bool real = is_float(dtype), bit = dtype == DType::boolean;
  if ((is_unary_function(op) || op == LoopOp::pow) && !real) return false;
  if ((op == LoopOp::neg || op == LoopOp::abs || op == LoopOp::sub || op == LoopOp::div) && bit) {
    return false;
  }
  const int x = b.load(dtype);
  int result = -1;
  if (op == LoopOp::log || op == LoopOp::sqrt || op == LoopOp::rsqrt) {
    result = b.op(op, b.op(LoopOp::abs, x));
  } else if (op <= LoopOp::floor) {
    result = b.op(op, x);
  } else if (op == LoopOp::pow) {
    result = b.op(op, b.op(LoopOp::abs, x), b.load(dtype));
  } else if (op <= LoopOp::pow) {
    result = b.op(op, x, b.load(dtype));
  } else {
    result = b.compare(op, x, b.load(dtype));
  }
  b.store(result, b.loop.insts[result].dtype);
  return true;
}

std::vector<int64_t> extents(int rank) {
  const std::vector<int64_t> all{2, 3, 1, 2};
  return {all.begin(), all.begin() + rank};
}

}  // namespace

TEST(Op, RowsStandInTheOrderOfTheEnum) {
  for (int i = 0; i < plan::kLoopOpCount; ++i) {
    EXPECT_EQ(info(static_cast<LoopOp>(i)).op, static_cast<LoopOp>(i));
  }
}

TEST(Op, EveryElementwiseOpOfGraphsIsALoopOp) {
  for (int i = 0; i < ir::kOpCount; ++i) {
    const auto op = static_cast<ir::Op>(i);
    // The pass erase_stops takes these out of every step.
    const bool computed = has_trait(op, ir::kElementwise) && op != ir::Op::stop_gradient;
    const std::optional<LoopOp> loop_op = plan::loop_op(op);
    EXPECT_EQ(loop_op.has_value(), computed) << name(op);
    if (!loop_op) continue;
    EXPECT_EQ(info(*loop_op).args, ir::info(op).max_inputs) << name(op);
  }
}

TEST(Op, KeysNameTheirOps) {
  LoopBuilder b(0);
  b.store(b.op(LoopOp::sin, b.load(DType::f32)), DType::bf16);
  EXPECT_EQ(b.loop.key(), "r0;o0f32-1;o1bf16-1;load:f32s2@0;sin:f32s2,0;store:f32s2,1@1");
}

TEST(Op, EveryOpOnEveryType) {
  std::vector<plan::Loop> loops;
  for (int op = static_cast<int>(LoopOp::neg); op <= static_cast<int>(LoopOp::ge); ++op) {
    if (static_cast<LoopOp>(op) == LoopOp::logical_not) continue;
    for (const DType dtype : kTypes) {
      LoopBuilder b(0);
      if (build(b, static_cast<LoopOp>(op), dtype)) loops.push_back(b.loop);
    }
  }
  const std::vector<LoopFn> functions = compiler().compile(loops);
  for (size_t k = 0; k < loops.size(); ++k) {
    for (const int64_t inner : {1, 7, 8, 9, 31, 64, 1000}) {
      LoopCase c(loops[k], {}, inner);
      ASSERT_EQ(c.check(functions[k]), "") << inner;
    }
  }
}

TEST(Op, EveryConversion) {
  for (const DType from : kTypes) {
    LoopBuilder b(1);
    const int x = b.load(from);
    for (const DType to : kTypes) b.store(b.convert(x, to), to);
    const LoopFn fn = compile(b.loop);
    for (const double scale : {2.0, 1e4, 1e9, 1e30}) {
      LoopCase::Options options;
      options.scale = scale;
      LoopCase c(b.loop, {3}, 65, options);
      ASSERT_EQ(c.check(fn), "") << name(from) << ", scale " << scale;
    }
  }
}

TEST(Op, LogicTakesAnyType) {
  for (const DType dtype : kTypes) {
    LoopBuilder b(0);
    const int x = b.load(dtype), y = b.load(dtype), z = b.load(DType::boolean);
    const int both = b.compare(LoopOp::logical_and, x, y);
    const int any = b.compare(LoopOp::logical_or, both, z);
    const int none = b.inst(LoopOp::logical_not, DType::boolean, {x});
    b.store(any, DType::boolean);
    b.store(none, DType::boolean);
    b.store(b.inst(LoopOp::select, dtype, {any, x, y}), dtype);
    LoopCase c(b.loop, {}, 41);
    ASSERT_EQ(c.check(compile(b.loop)), "") << name(dtype);
  }
}

TEST(Op, EveryWayToAddress) {
  // Full, strided, row and broadcast operands of each type at each rank, in both memory orders.
  for (const DType dtype : kTypes) {
    for (int rank = 0; rank <= 4; ++rank) {
      LoopBuilder b(rank);
      const int sum = b.op(LoopOp::max, b.load(dtype), b.load(dtype, InnerStride::strided));
      const int row = b.load(dtype, InnerStride::none),
                vector = b.load(dtype, InnerStride::unit, false);
      const int scalar = b.load(dtype, InnerStride::none, false);
      const int all =
          b.op(LoopOp::max, b.op(LoopOp::max, sum, row), b.op(LoopOp::min, vector, scalar));
      b.store(all, dtype);
      b.store(all, dtype, InnerStride::strided);
      b.store(b.op(LoopOp::min, row, scalar), dtype, InnerStride::none);
      b.store(scalar, dtype);  // spread over the elements
      b.store(scalar, dtype, InnerStride::none, false);
      const LoopFn fn = compile(b.loop);
      for (const int64_t inner : {1, 9, 70}) {
        for (const bool transposed : {false, true}) {
          LoopCase::Options options;
          options.transposed = transposed;
          LoopCase c(b.loop, extents(rank), inner, options);
          ASSERT_EQ(c.check(fn), "") << name(dtype) << " rank " << rank << " inner " << inner;
          ASSERT_EQ(c.check(fn, 2), "") << name(dtype) << " rank " << rank << " in pieces";
        }
      }
    }
  }
}

TEST(Op, ReductionsOfEveryFloat) {
  for (const DType dtype : kFloats) {
    for (const int width : {0, 4, 8, 16}) {
      LoopBuilder b(2);
      const int x = b.load(dtype), y = b.load(dtype, InnerStride::none);
      b.store(b.op(LoopOp::row_sum, x), dtype, InnerStride::none);
      b.store(b.op(LoopOp::row_max, x), dtype, InnerStride::none);
      b.store(b.op(LoopOp::row_sum, y), dtype, InnerStride::none);  // a row value, n times
      b.store(b.op(LoopOp::sub, x, b.op(LoopOp::row_max, x)), dtype);
      const LoopFn fn = compile(b.loop, width);
      for (const int64_t inner : {1, 7, 8, 9, 31, 64, 100, 1000}) {
        LoopCase c(b.loop, {2, 3}, inner);
        ASSERT_EQ(c.check(fn), "") << name(dtype) << " inner " << inner << " width " << width;
      }
    }
  }
}

TEST(Op, ReductionsOfIntegersAreExact) {
  for (const DType dtype : {DType::i32, DType::i64, DType::u8}) {
    LoopBuilder b(1);
    const int x = b.load(dtype);
    b.store(b.op(LoopOp::row_sum, x), dtype, InnerStride::none);
    b.store(b.op(LoopOp::row_max, x), dtype, InnerStride::none);
    LoopCase c(b.loop, {4}, 77);
    ASSERT_EQ(c.check(compile(b.loop)), "") << name(dtype);
  }
}

TEST(Op, AccumulatorsOfEveryShape) {
  for (const DType value : {DType::f32, DType::bf16, DType::f64}) {
    for (const DType memory : {DType::f32, DType::f64}) {
      for (const bool varies : {false, true}) {
        LoopBuilder b(2);
        const int x = b.load(value), row = b.op(LoopOp::row_max, x);
        b.accumulate(x, memory, InnerStride::unit, varies);
        b.accumulate(x, memory, InnerStride::strided, varies);
        b.accumulate(x, memory, InnerStride::none, varies);
        b.accumulate(row, memory, InnerStride::none, varies, LoopSpace::row);
        const LoopFn fn = compile(b.loop);
        for (const int64_t inner : {1, 9, 64, 333}) {
          LoopCase c(b.loop, {2, 3}, inner);
          ASSERT_EQ(c.check(fn), "") << name(value) << " into " << name(memory);
        }
      }
      LoopBuilder flat(0);
      flat.accumulate(flat.load(value), memory, InnerStride::none, false);
      LoopCase c(flat.loop, {}, 333);
      ASSERT_EQ(c.check(compile(flat.loop)), "") << "flat";
    }
  }
}

TEST(Op, RowsOfInfinityAndNan) {
  LoopBuilder b(1);
  const int x = b.load(DType::f32);
  b.store(b.op(LoopOp::row_max, x), DType::f32, InnerStride::none);
  b.store(b.op(LoopOp::row_sum, x), DType::f32, InnerStride::none);
  const LoopFn fn = compile(b.loop);
  const float inf = std::numeric_limits<float>::infinity();
  for (const int64_t inner : {1, 9, 100}) {
    for (int64_t at = 0; at < inner; at += 3) {
      LoopCase c(b.loop, {3}, inner);
      float* rows = c.as<float>(0);
      for (int64_t i = 0; i < inner; ++i) {
        rows[i] = -inf;
        rows[inner + i] = -1.0f;
        rows[2 * inner + i] = 1.0f;
      }
      rows[inner + at] = std::nanf("");
      rows[2 * inner + at] = inf;
      const plan::LoopCall call = c.call();
      fn(&call);
      EXPECT_EQ(c.as<float>(1)[0], -inf);
      EXPECT_TRUE(std::isnan(c.as<float>(1)[1])) << "NaN at " << at << " of " << inner;
      EXPECT_EQ(c.as<float>(1)[2], inf);
      EXPECT_EQ(c.as<float>(2)[0], -inf);
      EXPECT_TRUE(std::isnan(c.as<float>(2)[1]));
    }
  }
}

TEST(Op, EmptyRows) {
  LoopBuilder b(1);
  const int x = b.load(DType::f32);
  b.store(b.op(LoopOp::row_sum, x), DType::f32, InnerStride::none);
  b.store(b.op(LoopOp::row_max, x), DType::f32, InnerStride::none);
  b.store(x, DType::f32);
  LoopCase c(b.loop, {2}, 0);
  ASSERT_EQ(c.check(compile(b.loop)), "");
}

TEST(Op, IntegerDivisionNeverTraps) {
  for (const DType dtype : {DType::i32, DType::i64}) {
    LoopBuilder b(0);
    const int x = b.load(dtype), y = b.load(dtype);
    b.store(b.op(LoopOp::div, x, y), dtype);
    LoopCase c(b.loop, {}, 11);
    const int64_t low = dtype == DType::i32 ? INT32_MIN : INT64_MIN;
    const int64_t xs[11] = {7, -7, 7, -7, 0, 5, -5, low, low, 100, low};
    const int64_t ys[11] = {2, 2, -2, -2, 0, 0, 0, -1, 1, -1, 0};
    for (int i = 0; i < 11; ++i) {
      if (dtype == DType::i32) {
        c.as<int32_t>(0)[i] = static_cast<int32_t>(xs[i]);
        c.as<int32_t>(1)[i] = static_cast<int32_t>(ys[i]);
      } else {
        c.as<int64_t>(0)[i] = xs[i];
        c.as<int64_t>(1)[i] = ys[i];
      }
    }
    for (int k = 0; k < 2; ++k) {
      c.originals[k].assign(c.memory[k]->data(), c.memory[k]->data() + c.memory[k]->size());
    }
    ASSERT_EQ(c.check(compile(b.loop)), "") << name(dtype);
  }
}

TEST(Op, MalformedLoopsAreNamed) {
  const auto message = [](const plan::Loop& loop) -> std::string {
    try {
      compile(loop);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::internal);
      return error.what();
    }
    return "";
  };
  LoopBuilder mixed(0);
  mixed.inst(LoopOp::add, DType::f32, {mixed.load(DType::f32), mixed.load(DType::i32)});
  EXPECT_NE(message(mixed.loop).find("needs arguments of the result's type"), std::string::npos);
  LoopBuilder flat(0);
  flat.op(LoopOp::row_sum, flat.load(DType::f32));
  EXPECT_NE(message(flat.loop).find("a flat loop has no rows to reduce"), std::string::npos);
  LoopBuilder narrow(1);
  narrow.store(narrow.load(DType::f32), DType::f32, InnerStride::none);
  EXPECT_NE(message(narrow.loop).find("varies over more dimensions"), std::string::npos);
  LoopBuilder late(0);
  late.inst(LoopOp::neg, DType::f32, {3});
  EXPECT_NE(message(late.loop).find("arguments must be earlier instructions"), std::string::npos);
}

}  // namespace espalier::cpu
