// SPDX-License-Identifier: Apache-2.0
#include "espalier/backend/cpu/matmul/matmul.h"

#include <gtest/gtest.h>

#include "espalier/base/error.h"
#include "tests/backend_matmul/matmul_case.h"

namespace espalier::cpu {
namespace {

constexpr DType kTypes[] = {DType::f32, DType::bf16, DType::f16};

MatmulDesc dense(int64_t m, int64_t n, int64_t k, bool a_transposed = false,
                 bool b_transposed = false, bool c_transposed = false) {
  MatmulDesc desc;
  desc.m = m;
  desc.n = n;
  desc.k = k;
  desc.a = a_transposed ? transposed(m) : row_major(k);
  desc.b = b_transposed ? transposed(k) : row_major(n);
  desc.c = c_transposed ? transposed(m) : row_major(n);
  return desc;
}

MatmulDesc typed(MatmulDesc desc, DType a, DType b, DType c) {
  desc.a_dtype = a;
  desc.b_dtype = b;
  desc.c_dtype = c;
  return desc;
}

CaseOptions with(std::string implementation, int threads = 2) {
  CaseOptions options;
  options.matmul.threads = threads;
  options.matmul.implementation = std::move(implementation);
  return options;
}

CaseOptions exact(CaseOptions options) {
  options.exact = true;
  return options;
}

}  // namespace

TEST(Matmul, OddShapesEveryTranspose) {
  const int64_t sizes[] = {1, 5, 17, 63, 64, 65, 129};
  int turn = 0;
  for (const int64_t m : sizes) {
    for (const int64_t n : sizes) {
      for (const int64_t k : sizes) {
        // Every combination of transposes comes by in turn; every size meets all of them.
        const int bits = turn++ % 8;
        const MatmulDesc desc = dense(m, n, k, bits & 1, bits & 2, bits & 4);
        for (const char* implementation : {"packed", "wide"}) {
          EXPECT_EQ(run_case(desc, exact(with(implementation))), "");
        }
      }
    }
  }
}

TEST(Matmul, SumsStayInTheBudget) {
  for (int bits = 0; bits < 8; ++bits) {
    const MatmulDesc desc = dense(129, 65, 300, bits & 1, bits & 2, bits & 4);
    for (const char* implementation : {"packed", "wide", ""}) {
      EXPECT_EQ(run_case(desc, with(implementation)), "");
    }
    if (!(bits & 4)) {
      EXPECT_EQ(run_case(desc, with("onednn")), "");
    }
  }
}

TEST(Matmul, LongSumsAndSeveralStages) {
  // 8 MiB of packed B hold 2M floats: both a long k and a wide n need several stages.
  EXPECT_EQ(run_case(dense(20, 300, 9001), exact(with("packed"))), "");
  EXPECT_EQ(run_case(dense(13, 9001, 300), exact(with("packed"))), "");
  EXPECT_EQ(
      run_case(typed(dense(20, 700, 5001), DType::bf16, DType::bf16, DType::bf16), with("packed")),
      "");
}

TEST(Matmul, EveryMixOfTypes) {
  for (const DType a : kTypes) {
    for (const DType b : kTypes) {
      for (const DType c : kTypes) {
        if (c != DType::f32 && c != a && c != b) continue;
        for (const bool transposes : {false, true}) {
          const MatmulDesc desc = typed(dense(33, 47, 70, transposes, transposes), a, b, c);
          EXPECT_EQ(run_case(desc, with("packed")), "");
          EXPECT_EQ(run_case(desc, with("wide")), "");
          EXPECT_EQ(run_case(desc, with("")), "");
        }
      }
    }
  }
}

TEST(Matmul, EpiloguesOnEveryLayoutOfC) {
  for (const Activation activation :
       {Activation::none, Activation::relu, Activation::gelu_erf, Activation::gelu_tanh}) {
    for (int bits = 0; bits < 8; ++bits) {
      MatmulDesc desc = dense(31, 50, 40, false, true, bits & 1);
      desc.bias = bits & 2;
      desc.accumulate = bits & 4;
      desc.activation = activation;
      for (const DType dtype : kTypes) {
        const MatmulDesc narrow = typed(desc, dtype, dtype, dtype);
        EXPECT_EQ(run_case(narrow, with("packed")), "");
        EXPECT_EQ(run_case(narrow, with("")), "");
        MatmulDesc own_bias = narrow;
        own_bias.bias_dtype = dtype;
        EXPECT_EQ(run_case(own_bias, with("packed")), "");
      }
      if (!(bits & 1)) {
        EXPECT_EQ(run_case(desc, with("onednn")), "");
      }
    }
  }
}

TEST(Matmul, ViewsLeaveTheirGapsAlone) {
  MatmulDesc desc = dense(30, 40, 50);
  desc.a.row = 57;
  desc.b = {.row = 1, .col = 61};
  desc.c.row = 83;
  for (const char* implementation : {"packed", "wide", "onednn"}) {
    EXPECT_EQ(run_case(desc, exact(with(implementation))), "") << implementation;
  }
  desc.c = {.row = 2, .col = 70};  // neither side contiguous
  EXPECT_EQ(run_case(desc, exact(with("packed"))), "");
  desc.a = {.row = 2, .col = 90};
  desc.b = {.row = 91, .col = 2};
  EXPECT_EQ(run_case(desc, exact(with("packed"))), "");
}

TEST(Matmul, AttentionViewsOfAFusedProjection) {
  // q, k and v are slices of [batch, sequence, 3, heads, width]; scores are [batch, heads, s, s].
  const int64_t batch = 3, sequence = 37, heads = 4, width = 20;
  const int64_t token = 3 * heads * width;
  const MatrixLayout slice{.row = token, .col = 1, .outer = sequence * token, .inner = width};
  const MatrixLayout square{.row = sequence,
                            .col = 1,
                            .outer = heads * sequence * sequence,
                            .inner = sequence * sequence};
  MatmulDesc scores = dense(sequence, sequence, width);
  scores.batch_outer = batch;
  scores.batch_inner = heads;
  scores.a = slice;
  scores.b = {.row = 1, .col = token, .outer = slice.outer, .inner = width};
  scores.c = square;
  MatmulDesc values = dense(sequence, width, sequence);
  values.batch_outer = batch;
  values.batch_inner = heads;
  values.a = square;
  values.b = slice;
  values.c = slice;
  for (const char* implementation : {"packed", "wide", "onednn", ""}) {
    for (MatmulDesc desc : {scores, values}) {
      EXPECT_EQ(run_case(desc, with(implementation)), "") << implementation;
      desc.accumulate = true;
      EXPECT_EQ(run_case(desc, with(implementation)), "") << implementation;
      desc.batch_outer = 1;  // few matrices: threads share each of them
      desc.batch_inner = 2;
      EXPECT_EQ(run_case(desc, with(implementation)), "") << implementation;
    }
  }
}

TEST(Matmul, ThreadsDoNotChangeABit) {
  MatmulDesc batched = dense(65, 70, 80);
  batched.batch_inner = 9;
  batched.a.inner = 65 * 80;
  batched.b.inner = 80 * 70;
  batched.c.inner = 65 * 70;
  MatmulDesc narrow = typed(dense(300, 200, 700, true), DType::bf16, DType::f16, DType::bf16);
  narrow.bias = true;
  for (const MatmulDesc& desc :
       {dense(300, 300, 1000, true, false), dense(4, 1000, 600), batched, narrow}) {
    std::vector<unsigned char> one, other;
    ASSERT_EQ(run_case(desc, with("packed", 1), &one), "");
    for (const int threads : {2, 3, 7}) {
      CaseOptions options = with("packed", threads);
      options.check = false;  // equal to the checked bits
      ASSERT_EQ(run_case(desc, options, &other), "");
      EXPECT_TRUE(one == other) << desc.str() << " with " << threads << " threads";
    }
  }
}

TEST(Matmul, BMayComePacked) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    for (const DType a_dtype : {DType::f32, dtype}) {
      for (const char* implementation : {"packed", "wide"}) {
        for (const MatmulDesc& shape : {dense(40, 100, 700, false, true), dense(13, 9001, 300),
                                        dense(200, 70, 2500), dense(7, 33, 1)}) {
          MatmulDesc desc = shape;
          desc.a_dtype = a_dtype;
          desc.b_dtype = dtype;
          desc.c_dtype = a_dtype;
          desc.b_constant = true;
          desc.bias = true;
          std::vector<unsigned char> one, two;
          CaseOptions options = with(implementation);
          options.prepacked = true;
          ASSERT_EQ(run_case(desc, options, &two), "");
          options.check = false;
          options.matmul.threads = 1;
          ASSERT_EQ(run_case(desc, options, &one), "");
          EXPECT_TRUE(one == two) << desc.str();
        }
      }
    }
  }
}

// What is packed for one number of rows serves another, and is half as large where B is narrow.
TEST(Matmul, PackedLayoutsDoNotDependOnTheRows) {
  const auto plan = [](int64_t m, DType dtype) {
    MatmulDesc desc = dense(m, 640, 300, false, true);
    desc.b_dtype = dtype;
    desc.b_constant = true;
    return Matmul::create(desc, {.threads = 2, .implementation = "packed"});
  };
  EXPECT_EQ(plan(16, DType::f32)->packed_layout(), plan(5000, DType::f32)->packed_layout());
  EXPECT_NE(plan(16, DType::f32)->packed_layout(), plan(16, DType::bf16)->packed_layout());
  EXPECT_EQ(plan(16, DType::f32)->packed_b_bytes(), 2 * plan(16, DType::bf16)->packed_b_bytes());
}

// The packed values are those of the source rounded to B's type.
TEST(Matmul, PackingRoundsToTheTypeOfB) {
  MatmulDesc desc = dense(9, 50, 60, false, true);
  desc.b_dtype = DType::bf16;
  desc.b_constant = true;
  const auto plan = Matmul::create(desc, {.threads = 1, .implementation = "packed"});
  std::vector<float> wide(50 * 60);
  std::vector<uint16_t> narrow(wide.size());
  for (size_t i = 0; i < wide.size(); ++i) {
    wide[i] = std::sin(static_cast<float>(i));
    narrow[i] = to_bf16(wide[i]);
  }
  const auto packed = [&](const void* b, DType from) {
    std::vector<char> bytes(static_cast<size_t>(plan->packed_b_bytes()));
    std::vector<char> room(static_cast<size_t>(plan->pack_scratch_bytes()) + 64);
    void* aligned = room.data() + (64 - reinterpret_cast<uintptr_t>(room.data()) % 64) % 64;
    plan->pack_b(b, nullptr, from, bytes.data(), aligned);
    return bytes;
  };
  EXPECT_EQ(packed(wide.data(), DType::f32), packed(narrow.data(), DType::bf16));
}

TEST(Matmul, NonFiniteValuesReachTheResult) {
  const MatmulDesc desc = [] {
    MatmulDesc d = dense(20, 20, 20);
    d.activation = Activation::relu;
    return d;
  }();
  std::vector<float> a(400, 1.0f), b(400, 1.0f), c(400, 0.0f);
  a[21] = NAN;
  b[7] = INFINITY;
  const auto plan = Matmul::create(desc, {.threads = 1, .implementation = "packed"});
  std::vector<char> scratch(static_cast<size_t>(plan->scratch_bytes()) + 64);
  void* aligned = scratch.data() + (64 - reinterpret_cast<uintptr_t>(scratch.data()) % 64) % 64;
  plan->run(a.data(), b.data(), nullptr, c.data(), aligned);
  for (int n = 0; n < 20; ++n) EXPECT_TRUE(std::isnan(c[20 + n]));
  EXPECT_TRUE(std::isinf(c[7]));
  EXPECT_EQ(c[0], 20.0f);
}

TEST(Matmul, TheTableSaysWhoAndWhy) {
  const auto describe = [](const MatmulDesc& desc, MatmulOptions options) {
    return Matmul::create(desc, options)->describe();
  };
  const MatmulOptions avx2{.threads = 2, .isa = Isa::avx2};
  EXPECT_NE(describe(dense(64, 64, 64), avx2).find("packed gemm 6x16 avx2"), std::string::npos);
  EXPECT_NE(
      describe(dense(64, 64, 64), {.threads = 2, .isa = Isa::avx2, .implementation = "onednn"})
          .find("onednn gemm"),
      std::string::npos);
  EXPECT_EQ(describe(dense(1, 64, 64), avx2).find("declined"), std::string::npos);
}

TEST(Matmul, RefusalsNameTheProduct) {
  const auto message = [](const MatmulDesc& desc, const MatmulOptions& options) -> std::string {
    try {
      Matmul::create(desc, options);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_NE(message(dense(0, 4, 4), {}).find("sizes below 1: [0,4] x [4,4]"), std::string::npos);
  EXPECT_NE(message(typed(dense(4, 4, 4), DType::f64, DType::f32, DType::f32), {})
                .find("inputs must be f32, bf16 or f16"),
            std::string::npos);
  EXPECT_NE(message(typed(dense(4, 4, 4), DType::f32, DType::f32, DType::bf16), {})
                .find("the result must be f32 or an input's type"),
            std::string::npos);
  EXPECT_NE(message(dense(4, 4, 4), {.implementation = "cublas"}).find("known are packed, onednn"),
            std::string::npos);
  EXPECT_NE(message(typed(dense(4, 4, 4), DType::f16, DType::f16, DType::f32),
                    {.implementation = "onednn"})
                .find("onednn declines [4,4] x [4,4] f16,f16->f32: no f16"),
            std::string::npos);
}

}  // namespace espalier::cpu
