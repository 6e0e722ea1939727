// SPDX-License-Identifier: Apache-2.0
// bf16 and f16 in compiled loops have exactly the bits of tensor/dtype.h.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <random>

#include "tests/backend_jit/loop_case.h"

namespace espalier::cpu {
namespace {

using plan::LoopOp;

bool is_nan(DType dtype, uint16_t bits) {
  return std::isnan(dtype == DType::bf16 ? from_bf16(bits) : from_f16(bits));
}

/// The loop `build` makes from one load of T to one store of 16 bits, over `inputs`.
template <typename T, typename Want>
void expect_bits(const plan::Loop& loop, DType to, std::vector<T> inputs, Want want) {
  std::vector<uint16_t> out(inputs.size());
  void* operands[2] = {inputs.data(), out.data()};
  const int64_t strides[2] = {1, 1};
  const int64_t n = static_cast<int64_t>(inputs.size());
  const plan::LoopCall call{operands, nullptr, n, strides, nullptr, 0, n, nullptr};
  for (const int width : {0, 4, 16}) {
    compile(loop, width)(&call);
    for (size_t i = 0; i < inputs.size(); ++i) {
      const uint16_t expected = want(inputs[i]);
      if (is_nan(to, expected)) {
        ASSERT_TRUE(is_nan(to, out[i])) << i;
      } else {
        ASSERT_EQ(out[i], expected) << static_cast<double>(inputs[i]);
      }
    }
  }
}

std::vector<float> floats() {
  std::vector<float> x;
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += 8191) {
    x.push_back(std::bit_cast<float>(static_cast<uint32_t>(bits)));
  }
  // Ties, their neighbours and the ends of the range, for both formats.
  for (uint32_t high = 0; high < 0x10000; high += 3) {
    for (const uint32_t low :
         {0x0u, 0x7FFFu, 0x8000u, 0x8001u, 0x1000u, 0x0FFFu, 0x1001u, 0x3000u}) {
      x.push_back(std::bit_cast<float>(high << 16 | low));
    }
  }
  return x;
}

uint16_t narrow(DType dtype, float x) { return dtype == DType::bf16 ? to_bf16(x) : to_f16(x); }

}  // namespace

TEST(Rounding, StoresRoundToNearestEven) {
  for (const DType to : {DType::bf16, DType::f16}) {
    LoopBuilder b(0);
    b.store(b.load(DType::f32), to);
    expect_bits(b.loop, to, floats(), [&](float x) { return narrow(to, x); });
  }
}

TEST(Rounding, ConversionsRoundOnce) {
  for (const DType to : {DType::bf16, DType::f16}) {
    LoopBuilder b(0);
    b.store(b.convert(b.load(DType::f32), to), to);
    expect_bits(b.loop, to, floats(), [&](float x) { return narrow(to, x); });
  }
}

TEST(Rounding, FromDoubleWithoutATiePoint) {
  std::vector<double> x;
  std::mt19937_64 random(3);
  for (const float f : floats()) {
    x.push_back(static_cast<double>(f));
    x.push_back(static_cast<double>(f) * (1 + 0x1p-40));  // just beside what f32 could see
    x.push_back(static_cast<double>(f) * (1 - 0x1p-40));
    if (x.size() > 400000) break;
  }
  for (int i = 0; i < 100000; ++i) x.push_back(std::bit_cast<double>(random()));
  for (const DType to : {DType::bf16, DType::f16}) {
    LoopBuilder b(0);
    b.store(b.convert(b.load(DType::f64), to), to);
    expect_bits(b.loop, to, x,
                [&](double v) { return narrow(to, static_cast<float>(round_to(to, v))); });
  }
}

TEST(Rounding, EveryPatternWidensAndReturns) {
  std::vector<uint16_t> all(65536);
  for (uint32_t i = 0; i < 65536; ++i) all[i] = static_cast<uint16_t>(i);
  for (const DType dtype : {DType::bf16, DType::f16}) {
    LoopBuilder b(0);
    b.store(b.op(LoopOp::neg, b.op(LoopOp::neg, b.load(dtype))), dtype);
    expect_bits(b.loop, dtype, all, [](uint16_t bits) { return bits; });
  }
}

TEST(Rounding, ArithmeticRoundsAfterEachInstruction) {
  for (const DType dtype : {DType::bf16, DType::f16}) {
    LoopBuilder b(0);
    const int x = b.load(DType::f32);
    const int h = b.convert(x, dtype);
    const int third = b.constant(dtype, 1.0 / 3.0);
    b.store(b.op(LoopOp::add, b.op(LoopOp::mul, h, third), h), dtype);
    const auto round = [&](float v) {
      return static_cast<float>(round_to(dtype, static_cast<double>(v)));
    };
    expect_bits(b.loop, dtype, floats(), [&](float v) {
      const float a = round(v), c = round(a * round(1.0f / 3.0f));
      return narrow(dtype, c + a);
    });
  }
}

}  // namespace espalier::cpu
