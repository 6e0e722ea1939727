// SPDX-License-Identifier: Apache-2.0
// Products of two matrices with one A: silu(A B) * (A B2).
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "espalier/backend/cpu/matmul/matmul.h"
#include "espalier/tensor/host_tensor.h"

namespace espalier::cpu {
namespace {

HostTensor random_values(DType dtype, const Shape& shape, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> uniform(-1.0, 1.0);
  HostTensor values(dtype, shape);
  for (int64_t i = 0; i < values.numel(); ++i) values.set(i, uniform(random));
  return values;
}

struct Case {
  int64_t m, n, k;
  DType a, b;
  const char* implementation = "packed";
};

/// C of the kernel, after a comparison with double.
std::vector<double> run(const Case& at, int threads) {
  MatmulDesc desc{.m = at.m, .n = at.n, .k = at.k, .a_dtype = at.a, .b_dtype = at.b};
  desc.c_dtype = at.a;
  desc.a = row_major(at.k);
  desc.b = transposed(at.k);
  desc.c = row_major(at.n);
  desc.activation = Activation::swiglu;
  desc.b_constant = true;
  const auto plan = Matmul::create(desc, {.threads = threads, .implementation = at.implementation});
  const HostTensor a = random_values(at.a, {at.m, at.k}, 1);
  const HostTensor gate = random_values(at.b, {at.n, at.k}, 2);
  const HostTensor up = random_values(at.b, {at.n, at.k}, 3);
  HostTensor packed(DType::u8, {plan->packed_b_bytes()});
  HostTensor room(DType::u8, {plan->pack_scratch_bytes()});
  HostTensor scratch(DType::u8, {plan->scratch_bytes()});
  // One element more than C has: a guard.
  HostTensor c(at.a, {at.m * at.n + 1});
  for (int64_t i = 0; i < c.numel(); ++i) c.set(i, NAN);
  plan->pack_b(gate.data(), up.data(), at.b, packed.data(), room.data());
  plan->run_packed(a.data(), packed.data(), nullptr, c.data(), scratch.data());
  EXPECT_TRUE(std::isnan(c.get(at.m * at.n)));

  const double u_out = at.a == DType::f32 ? 0x1p-24 : at.a == DType::bf16 ? 0x1p-8 : 0x1p-11;
  for (int64_t i = 0; i < at.m; ++i) {
    for (int64_t j = 0; j < at.n; ++j) {
      double g = 0.0, x = 0.0, g_size = 0.0, x_size = 0.0;
      for (int64_t k = 0; k < at.k; ++k) {
        const double left = a.get(i * at.k + k);
        g += left * gate.get(j * at.k + k);
        x += left * up.get(j * at.k + k);
        g_size += std::abs(left * gate.get(j * at.k + k));
        x_size += std::abs(left * up.get(j * at.k + k));
      }
      const double silu = g / (1.0 + std::exp(-g)), want = silu * x;
      // Sums of k terms err like a random walk; the slope of silu stays below 1.1.
      const double sums = 0x1p-24 * (4.0 * std::sqrt(static_cast<double>(at.k)) + 4.0);
      const double budget = sums * (1.1 * g_size * std::abs(x) + x_size * std::abs(silu)) +
                            (8 * 0x1p-24 + u_out) * std::abs(want) + 0x1p-25;
      EXPECT_LE(std::abs(c.get(i * at.n + j) - want), budget) << i << " " << j;
    }
  }
  return c.to_doubles();
}

TEST(GatedMatmul, AgreesWithDouble) {
  for (const char* implementation : {"packed", "wide"}) {
    run({6, 16, 8, DType::f32, DType::f32, implementation}, 1);
    run({50, 70, 33, DType::f32, DType::bf16, implementation}, 2);
    run({29, 40, 60, DType::bf16, DType::bf16, implementation}, 2);
    run({13, 37, 1500, DType::f16, DType::f16, implementation}, 1);  // several blocks of k
  }
}

TEST(GatedMatmul, ThreadsDoNotChangeBits) {
  const Case at{300, 50, 1100, DType::f32, DType::bf16};
  const std::vector<double> one = run(at, 1), three = run(at, 3);
  // The guard is NaN.
  EXPECT_TRUE(std::equal(one.begin(), one.end() - 1, three.begin()));
}

TEST(GatedMatmul, LargeGatesAndNaN) {
  MatmulDesc desc{.m = 1, .n = 4, .k = 1};
  desc.a = row_major(1);
  desc.b = transposed(1);
  desc.c = row_major(4);
  desc.activation = Activation::swiglu;
  desc.b_constant = true;
  const auto plan = Matmul::create(desc, {.threads = 1, .implementation = "packed"});
  const float a = 1.0f, gate[] = {-200.0f, 200.0f, NAN, 0.0f}, up[] = {1.0f, 2.0f, 1.0f, 5.0f};
  HostTensor packed(DType::u8, {plan->packed_b_bytes()}),
      scratch(DType::u8, {plan->scratch_bytes()});
  float c[4];
  plan->pack_b(gate, up, DType::f32, packed.data(), nullptr);
  plan->run_packed(&a, packed.data(), nullptr, c, scratch.data());
  EXPECT_NEAR(c[0], 0.0f, 1e-30f);
  EXPECT_EQ(c[1], 400.0f);
  EXPECT_TRUE(std::isnan(c[2]));
  EXPECT_EQ(c[3], 0.0f);
}

}  // namespace
}  // namespace espalier::cpu
