// SPDX-License-Identifier: Apache-2.0
// Loops as a training step has them, whole and in pieces, at every vector width.
#include <gtest/gtest.h>

#include "espalier/base/rng.h"
#include "tests/backend_jit/model_loops.h"

namespace espalier::cpu {

using plan::InnerStride;
using plan::LoopOp;
using plan::OperandRole;

constexpr int64_t kInner[] = {1, 7, 8, 9, 31, 64, 65, 129, 1000};
constexpr int kWidths[] = {0, 4, 8, 16};

TEST(ModelLoop, EveryLengthAndWidth) {
  for (const auto& [name, loop] : model_loops()) {
    for (const int width : kWidths) {
      const LoopFn fn = compile(loop, width);
      for (const int64_t inner : kInner) {
        std::vector<int64_t> outer(loop.outer_rank, 3);
        LoopCase c(loop, outer, inner);
        ASSERT_EQ(c.check(fn), "") << name << ", inner " << inner << ", width " << width;
      }
    }
  }
}

TEST(ModelLoop, PiecesGiveTheSameBits) {
  for (const auto& [name, loop] : model_loops()) {
    const LoopFn fn = compile(loop);
    for (const int64_t inner : {31, 1000}) {
      LoopCase c(loop, std::vector<int64_t>(loop.outer_rank, 3), inner);
      const auto whole = c.run(fn);
      for (const int64_t chunk : {1, 2, 5, 13}) {
        ASSERT_EQ(c.run(fn, chunk), whole) << name << ", inner " << inner << ", chunk " << chunk;
      }
    }
  }
}

TEST(ModelLoop, AdamWorksInPlace) {
  const plan::Loop loop = adam_loop();
  const LoopFn fn = compile(loop);
  for (const int64_t inner : kInner) {
    LoopCase c(loop, {}, inner);
    for (int k = 0; k < 3; ++k) c.in_place(kAdamOutputs + k, k);
    ASSERT_EQ(c.check(fn), "") << inner;
  }
}

TEST(ModelLoop, SoftmaxWorksInPlace) {
  const plan::Loop loop = softmax_loop(DType::f32);
  const LoopFn fn = compile(loop);
  for (const int64_t inner : kInner) {
    LoopCase c(loop, {5}, inner);
    c.in_place(1, 0);
    ASSERT_EQ(c.check(fn), "") << inner;
  }
}

}  // namespace espalier::cpu
