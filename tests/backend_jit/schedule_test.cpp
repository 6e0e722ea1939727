// SPDX-License-Identifier: Apache-2.0
// Sweeps, what they keep for each other, and loops that write over their inputs.
#include "espalier/backend/cpu/jit/loop_schedule.h"

#include <gtest/gtest.h>

#include "tests/backend_jit/model_loops.h"

namespace espalier::cpu {

using plan::InnerStride;
using plan::LoopOp;

TEST(Schedule, SoftmaxKeepsOnlyTheExponentials) {
  const jit::LoopSchedule schedule = jit::make_schedule(softmax_loop(DType::f32));
  EXPECT_EQ(schedule.sweeps.size(), 3u);  // maximum, sum, quotient
  EXPECT_EQ(schedule.slots.size(), 1u);
  EXPECT_EQ(loop_scratch_bytes(softmax_loop(DType::f32), 100), 128 * 4);
}

TEST(Schedule, FlatLoopsKeepNothing) { EXPECT_EQ(loop_scratch_bytes(adam_loop(), 1 << 20), 0); }

TEST(Schedule, DeadValuesAreNotEvaluated) {
  LoopBuilder b(1);
  const int x = b.load(DType::f32), unused = b.op(LoopOp::exp, b.load(DType::f32));
  b.op(LoopOp::row_sum, unused);
  b.store(x, DType::f32);
  const jit::LoopSchedule schedule = jit::make_schedule(b.loop);
  ASSERT_EQ(schedule.sweeps.size(), 1u);
  EXPECT_EQ(schedule.sweeps[0].steps.size(), 2u);  // load, store
  LoopCase c(b.loop, {2}, 9);
  c.pointers[1] = nullptr;  // the operand of the dead value is never read
  const plan::LoopCall call = c.call();
  compile(b.loop)(&call);
}

/// out = a + b in place of a; y = (a + b) - mean, which must not read the new a.
TEST(Schedule, AnOverwrittenInputIsKept) {
  for (const InnerStride inner : {InnerStride::unit, InnerStride::strided}) {
    LoopBuilder b(1);
    const int a = b.load(DType::f32, inner);
    const int sum = b.op(LoopOp::add, a, b.load(DType::f32));
    b.store(sum, DType::f32, inner);
    b.store(b.op(LoopOp::sub, sum, b.op(LoopOp::row_sum, sum)), DType::f32);
    b.store(b.op(LoopOp::add, a, b.op(LoopOp::row_max, sum)), DType::f32);
    const LoopFn fn = compile(b.loop);
    for (const int64_t n : {1, 8, 33, 100}) {
      LoopCase c(b.loop, {3}, n);
      c.in_place(2, 0);
      ASSERT_EQ(c.check(fn), "") << n;
    }
  }
}

TEST(Schedule, StoresWaitForLaterLoadsOfTheSameMemory) {
  LoopBuilder b(0);
  const int x = b.load(DType::f32);
  b.store(b.op(LoopOp::neg, x), DType::f32);  // operand 1, over operand 2
  const int y = b.load(DType::f32);
  b.store(b.op(LoopOp::add, x, y), DType::f32);  // operand 3, over operand 0
  const LoopFn fn = compile(b.loop);
  for (const int64_t n : {1, 9, 100}) {
    LoopCase c(b.loop, {}, n);
    c.in_place(1, 2);
    c.in_place(3, 0);
    ASSERT_EQ(c.check(fn), "") << n;
  }
}

}  // namespace espalier::cpu
