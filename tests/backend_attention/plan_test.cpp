// SPDX-License-Identifier: Apache-2.0
// Results must not depend on threads, on the block of queries, or on the dropout's tiling; and
// every tile size, and the 16-lane code of AVX-512, must be right.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "espalier/backend/cpu/attention/bench.h"
#include "tests/backend_attention/case.h"
#include "tests/backend_attention/wide_kernels.h"

namespace espalier::cpu {
namespace {

Options mixed() {
  return {.batch = 2,
          .heads = 4,
          .kv_heads = 2,
          .seq_q = 150,
          .seq_k = 170,
          .head_dim = 40,
          .causal = true,
          .segments = true,
          .dropout = 0.2f};
}

TEST(AttentionPlan, ThreadsDoNotChangeABit) {
  Options options = mixed();
  Case one(options);
  one.run();
  for (int threads : {2, 3, 64}) {
    options.threads = threads;
    Case many(options);
    many.run();
    EXPECT_TRUE(many.out == one.out);
    EXPECT_TRUE(many.lse == one.lse);
    EXPECT_TRUE(many.dqkv == one.dqkv);
  }
}

TEST(AttentionPlan, BlocksOfQueriesDoNotChangeTheForwardPass) {
  Case whole(mixed());
  AttentionPlan plan = plan_forward(whole.params, 1);
  whole.forward(plan);
  for (int64_t panels : {1, 2, 5}) {
    Case other(mixed());
    plan.tiles.queries = panels * plan.kernels.panel;
    other.forward(plan);
    EXPECT_TRUE(other.out == whole.out);
    EXPECT_TRUE(other.lse == whole.lse);
  }
}

void expect_every_tile_right(const AttentionKernels& kernels, Options options) {
  for (int64_t panels : {1, 2, 3}) {
    for (int64_t keys : {1, 13, 64, 170}) {
      Case c(options);
      const bool copy = c.params.dtype != DType::f32 || panels == 2;
      const AttentionPlan plan{kernels, {panels * kernels.panel, keys}, copy, 1};
      c.forward(plan);
      c.backward(plan);
      const Deviation worst = compare(c);
      EXPECT_LT(worst.ratio, 1.0) << worst.where << " with " << panels << " panels, " << keys
                                  << " keys";
    }
  }
}

TEST(AttentionPlan, EveryTileSizeIsRight) {
  Options options = mixed();
  options.batch = 1;
  options.heads = 2;
  options.kv_heads = 1;
  expect_every_tile_right(kAttentionAvx2, options);
  options.dtype = DType::bf16;
  options.key_mask = true;
  options.batch = 2;
  options.seq_q = 70;
  expect_every_tile_right(kAttentionAvx2, options);
}

TEST(AttentionPlan, SixteenLanesAreRight) {
  const AttentionKernels& wide = wide_attention_kernels();
  EXPECT_EQ(wide.lanes, 16);
  Options options = mixed();
  options.batch = 1;
  options.heads = 2;
  options.kv_heads = 1;
  expect_every_tile_right(wide, options);
  for (DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    for (int64_t head_dim : {1, 15, 16, 33, 64, 80}) {
      Case c({.seq_q = 70,
              .seq_k = 70,
              .head_dim = head_dim,
              .dtype = dtype,
              .out_dtype = dtype,
              .grad_dtype = dtype,
              .causal = true});
      const AttentionPlan plan{wide, {wide.panel, 64}, dtype != DType::f32, 2};
      c.forward(plan);
      c.backward(plan);
      const Deviation worst = compare(c);
      EXPECT_LT(worst.ratio, 1.0) << worst.where;
    }
  }
}

TEST(AttentionPlan, TheMachinesOwnKernelsRun) {
  // ESPALIER_ISA=avx2 selects the 8-lane code on any processor.
  const Isa isa = cpu_info().isa;
  EXPECT_EQ(attention_kernels(isa).lanes, vector_bytes(isa) / 4);
  EXPECT_EQ(plan_forward(Case(mixed()).params, 1).kernels.lanes, vector_bytes(isa) / 4);
  EXPECT_EQ(attention_kernels(Isa::avx2).lanes, 8);
  EXPECT_EQ(attention_kernels(Isa::avx512).lanes, 16);
}

double ulps(float got, double want) {
  int exponent;
  std::frexp(want, &exponent);
  return std::abs(got - want) / std::ldexp(1.0, exponent - 24);
}

TEST(AttentionPlan, ExponentialAndLogarithmKeepTheirBounds) {
  double worst_exp2 = 0.0, worst_log = 0.0;
  for (int i = 0; i < 1000000; ++i) {
    const float x = -126.0f * static_cast<float>(i) / 1000000.0f;
    worst_exp2 = std::max(worst_exp2, ulps(wide_exp2(x), std::exp2(static_cast<double>(x))));
    const float y = 1.0f + 7.0f * static_cast<float>(i) / 1000.0f;  // a softmax denominator
    if (i > 0) worst_log = std::max(worst_log, ulps(wide_log(y), std::log(static_cast<double>(y))));
  }
  EXPECT_LT(worst_exp2, 1.0);
  EXPECT_LT(worst_log, 2.0);
  EXPECT_EQ(wide_exp2(0.0f), 1.0f);
  EXPECT_EQ(wide_exp2(-126.5f), 0.0f);
  EXPECT_EQ(wide_exp2(-1e30f), 0.0f);
  EXPECT_EQ(wide_exp2(-INFINITY), 0.0f);
  EXPECT_TRUE(std::isnan(wide_exp2(NAN)));
  EXPECT_EQ(wide_log(1.0f), 0.0f);
}

TEST(AttentionPlan, TheBenchmarkRuns) {
  AttentionParams p{
      .batch = 1, .heads = 2, .kv_heads = 2, .seq_q = 64, .seq_k = 64, .head_dim = 16};
  p.causal = true;
  const AttentionBenchResult result = bench_attention(p, 1, 0.0001);
  EXPECT_EQ(result.forward_flops, 4.0 * 2 * 64 * 64 / 2 * 16);
  EXPECT_GT(result.forward_gflops(), 0.0);
  EXPECT_GT(result.backward_gflops(), 0.0);
}

TEST(AttentionPlan, ScratchGrowsLinearly) {
  AttentionParams p{.heads = 8, .kv_heads = 8, .seq_q = 4096, .seq_k = 4096, .head_dim = 64};
  const int64_t forward = attention_forward_scratch(p, 2);
  const int64_t backward = attention_backward_scratch(p, 2);
  EXPECT_EQ(forward % 64, 0);
  EXPECT_EQ(backward % 64, 0);
  p.seq_q = p.seq_k = 2 * 4096;
  EXPECT_EQ(attention_forward_scratch(p, 2), forward);
  EXPECT_LE(attention_backward_scratch(p, 2), 2 * backward);
  EXPECT_EQ(attention_forward_scratch(p, 4), 2 * forward);
}

}  // namespace
}  // namespace espalier::cpu
