// SPDX-License-Identifier: Apache-2.0
// Random numbers drawn inside loops equal base/rng.h for every index, whatever the index is made
// of.
#include <gtest/gtest.h>

#include "espalier/base/rng.h"
#include "tests/backend_jit/loop_case.h"

namespace espalier::cpu {
namespace {

using plan::InnerStride;
using plan::LoopOp;

constexpr int64_t kBases[] = {0,
                              5,
                              -3,
                              -1000,
                              (int64_t{1} << 32) - 20,
                              (int64_t{1} << 32),
                              (int64_t{3} << 32) - 1,
                              (int64_t{1} << 40) + 7,
                              -(int64_t{1} << 32) - 9};

/// Uniform draws over rows, with `make_index` deciding what the index is.
template <typename MakeIndex>
void expect_exact(int rank, MakeIndex make_index, InnerStride out = InnerStride::unit) {
  LoopBuilder b(rank);
  const int seed = b.load(DType::i64, InnerStride::none, false);
  const int step = b.load(DType::i64, InnerStride::none, false);
  const int index = make_index(b);
  b.store(b.uniform(seed, step, index, 2), DType::f32, out);
  b.store(index, DType::i64, out);
  for (const int width : {0, 4, 8, 16}) {
    const LoopFn fn = compile(b.loop, width);
    for (const int64_t base : kBases) {
      for (const int64_t stride : {int64_t{3}, int64_t{-7}, int64_t{1} << 31}) {
        LoopCase::Options options;
        options.index_base = base;
        options.seed = static_cast<uint64_t>(base) % 97 + 1;
        LoopCase c(b.loop, std::vector<int64_t>(rank, 3), 37, options);
        for (size_t k = 0; k < b.loop.operands.size(); ++k) {  // index strides may be anything
          const plan::LoopOperand& operand = b.loop.operands[k];
          if (operand.role == plan::OperandRole::index && operand.inner == InnerStride::strided) {
            c.strides[k * (rank + 1) + rank] = stride;
          }
        }
        ASSERT_EQ(c.check(fn), "") << "base " << base << " stride " << stride;
        ASSERT_EQ(c.check(fn, 2), "") << "in pieces";
        // The evaluator calls base/rng.h; look at one value without it.
        c.restore();
        const plan::LoopCall call = c.call();
        fn(&call);
        const int outputs = static_cast<int>(b.loop.operands.size()) - 2;
        const RngKey key =
            rng_key(static_cast<uint64_t>(c.as<int64_t>(0)[0]),
                    static_cast<uint64_t>(c.as<int64_t>(1)[0]), static_cast<uint64_t>(c.ids[2]));
        const int64_t first = c.as<int64_t>(outputs + 1)[0];
        ASSERT_EQ(c.as<float>(outputs)[0], rng_uniform(key, static_cast<uint64_t>(first)));
      }
    }
  }
}

}  // namespace

TEST(Random, FlatIndex) {
  expect_exact(0, [](LoopBuilder& b) { return b.index(); });
}
TEST(Random, RowsOfIndices) {
  expect_exact(2, [](LoopBuilder& b) { return b.index(); });
}
TEST(Random, StridedIndex) {
  expect_exact(1, [](LoopBuilder& b) { return b.index(true, InnerStride::strided); });
}
TEST(Random, MovedIndex) {
  expect_exact(1, [](LoopBuilder& b) {
    const int moved = b.op(LoopOp::add, b.constant(DType::i64, 1e10), b.index());
    return b.op(LoopOp::sub, moved, b.load(DType::i64, InnerStride::none));
  });
}
TEST(Random, ComputedIndex) {
  expect_exact(1, [](LoopBuilder& b) {
    return b.op(LoopOp::mul, b.index(), b.constant(DType::i64, 12345678901.0));
  });
}
TEST(Random, OnePerRow) {
  expect_exact(
      2, [](LoopBuilder& b) { return b.index(true, InnerStride::none); }, InnerStride::none);
}

TEST(Random, IndexComparisonsAreExact) {
  for (const LoopOp op : {LoopOp::eq, LoopOp::ne, LoopOp::lt, LoopOp::le, LoopOp::gt, LoopOp::ge}) {
    LoopBuilder b(1);
    const int i = b.index(), limit = b.load(DType::i64, InnerStride::none);
    b.store(b.compare(op, i, limit), DType::boolean);
    b.store(b.compare(op, limit, i), DType::boolean);
    b.store(b.compare(op, i, b.constant(DType::i64, 40)), DType::boolean);
    b.store(b.compare(op, i, b.index(true, InnerStride::none)), DType::boolean);
    const LoopFn fn = compile(b.loop);
    for (const int64_t base : {int64_t{0}, int64_t{-30}, int64_t{30}, INT64_MAX - 100, INT64_MIN}) {
      LoopCase::Options options;
      options.index_base = base;
      LoopCase c(b.loop, {1}, 67, options);
      for (const int64_t limit_value : {int64_t{0}, int64_t{33}, base + 20, INT64_MIN, INT64_MAX}) {
        c.as<int64_t>(1)[0] = limit_value;
        c.originals[1].assign(c.memory[1]->data(), c.memory[1]->data() + 8);
        ASSERT_EQ(c.check(fn), "") << base << " against " << limit_value;
      }
    }
  }
}

TEST(Random, IndexAsNumber) {
  LoopBuilder b(1);
  const int i = b.index();
  b.store(b.convert(i, DType::f32), DType::f32);
  b.store(b.convert(i, DType::i32), DType::i32);
  b.store(b.convert(b.op(LoopOp::add, i, i), DType::f64), DType::f64);
  LoopCase c(b.loop, {3}, 50);
  ASSERT_EQ(c.check(compile(b.loop)), "");
}

}  // namespace espalier::cpu
