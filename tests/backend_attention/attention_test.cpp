// SPDX-License-Identifier: Apache-2.0
// Flash attention against the double reference, over shapes, dtypes and kinds of masks.
#include "espalier/backend/cpu/attention/attention.h"

#include <gtest/gtest.h>

#include <cmath>

#include "espalier/base/error.h"
#include "tests/backend_attention/case.h"

namespace espalier::cpu {
namespace {

void expect_close(const Options& options) {
  Case c(options);
  c.run();
  const Deviation worst = compare(c);
  EXPECT_LT(worst.ratio, 1.0) << worst.where << "\n  batch " << options.batch << " heads "
                              << options.heads << "/" << options.kv_heads << " seq "
                              << options.seq_q << "x" << options.seq_k << " head_dim "
                              << options.head_dim << " " << name(options.dtype) << " causal "
                              << options.causal;
}

TEST(Attention, HeadSizes) {
  for (int64_t head_dim : {1, 3, 7, 8, 9, 16, 17, 32, 63, 64, 80, 128, 256}) {
    for (bool causal : {false, true}) {
      expect_close({.seq_q = 37, .seq_k = 37, .head_dim = head_dim, .causal = causal});
    }
  }
}

TEST(Attention, SequenceLengths) {
  for (int64_t seq : {1, 2, 7, 15, 16, 17, 64, 65, 127, 200, 256, 300}) {
    for (bool causal : {false, true}) {
      expect_close({.heads = 1,
                    .kv_heads = 1,
                    .seq_q = seq,
                    .seq_k = seq,
                    .head_dim = 24,
                    .causal = causal});
    }
  }
}

TEST(Attention, QueriesAndKeysOfDifferentLength) {
  // Causal with fewer keys than queries: the first queries see nothing.
  for (const auto& [seq_q, seq_k] : {std::pair<int64_t, int64_t>{1, 200},
                                     {200, 1},
                                     {33, 130},
                                     {130, 33},
                                     {64, 65},
                                     {65, 64},
                                     {16, 272}}) {
    for (bool causal : {false, true}) {
      expect_close({.seq_q = seq_q, .seq_k = seq_k, .head_dim = 17, .causal = causal});
    }
  }
}

TEST(Attention, TheByteModelsShape) {
  expect_close({.heads = 2, .seq_q = 256, .seq_k = 256, .head_dim = 64, .causal = true});
}

TEST(Attention, SixteenBitTypes) {
  for (DType dtype : {DType::bf16, DType::f16}) {
    for (DType out_dtype : {DType::f32, dtype}) {
      for (int64_t head_dim : {1, 17, 64, 80}) {
        expect_close({.seq_q = 70,
                      .seq_k = 70,
                      .head_dim = head_dim,
                      .dtype = dtype,
                      .out_dtype = out_dtype,
                      .grad_dtype = out_dtype,
                      .causal = head_dim % 2 == 0});
      }
    }
  }
}

TEST(Attention, GroupedQueries) {
  for (int64_t kv_heads : {1, 2, 3}) {
    expect_close({.batch = 2,
                  .heads = 6,
                  .kv_heads = kv_heads,
                  .seq_q = 40,
                  .seq_k = 40,
                  .head_dim = 16,
                  .causal = true,
                  .dropout = 0.2f});
  }
}

TEST(Attention, KeyMaskAndSegments) {
  for (bool key_mask : {false, true}) {
    for (bool segments : {false, true}) {
      for (bool causal : {false, true}) {
        for (int64_t seq : {9, 65, 200}) {
          expect_close({.batch = 2,
                        .seq_q = seq,
                        .seq_k = seq,
                        .head_dim = 24,
                        .causal = causal,
                        .key_mask = key_mask,
                        .segments = segments});
        }
      }
    }
  }
}

TEST(Attention, MasksWithDropoutAndQueriesOfAnotherLength) {
  expect_close({.batch = 3,
                .heads = 4,
                .kv_heads = 2,
                .seq_q = 150,
                .seq_k = 131,
                .head_dim = 20,
                .dtype = DType::bf16,
                .out_dtype = DType::bf16,
                .grad_dtype = DType::bf16,
                .causal = true,
                .key_mask = true,
                .segments = true,
                .dropout = 0.3f});
}

TEST(Attention, Dropout) {
  for (float dropout : {0.1f, 0.5f, 0.999f}) {
    for (bool causal : {false, true}) {
      expect_close({.batch = 2,
                    .seq_q = 130,
                    .seq_k = 130,
                    .head_dim = 32,
                    .causal = causal,
                    .dropout = dropout});
    }
  }
}

TEST(Attention, LargeLogits) {
  // Standard deviations of the logits of about 100 and 10,000: exp overflows without the maximum.
  for (double magnitude : {10.0, 100.0}) {
    for (bool causal : {false, true}) {
      expect_close(
          {.seq_q = 130, .seq_k = 300, .head_dim = 64, .causal = causal, .magnitude = magnitude});
    }
  }
}

TEST(Attention, LogitsThatRiseFromTileToTile) {
  // Every tile of keys raises the running maximum, so earlier outputs are rescaled each time.
  Case c({.heads = 1, .kv_heads = 1, .seq_q = 20, .seq_k = 700, .head_dim = 8});
  for (int64_t j = 0; j < 700; ++j) {
    c.qkv.set(c.k_offset + j * c.params.k.seq, 0.05 * static_cast<double>(j));
  }
  for (int64_t i = 0; i < 20; ++i) c.qkv.set(i * c.params.q.seq, i % 2 == 0 ? 5.0 : -5.0);
  c.run();
  const Deviation worst = compare(c);
  EXPECT_LT(worst.ratio, 1.0) << worst.where;
}

TEST(Attention, QueriesThatSeeNothingGiveZeros) {
  Case c({.seq_q = 40, .seq_k = 40, .head_dim = 16, .key_mask = true});  // one row: all hidden
  c.run();
  for (int64_t i = 0; i < c.lse.count(); ++i) EXPECT_EQ(c.lse.get(i), -INFINITY);
  for (int64_t i = 0; i < 40; ++i) {
    for (int64_t d = 0; d < 32; ++d) {
      EXPECT_EQ(c.out.get(i * c.params.out.seq + d), 0.0);
      EXPECT_EQ(c.dqkv.get(i * c.params.dq.seq + d), 0.0);
      EXPECT_EQ(c.dqkv.get(c.k_offset + i * c.params.dq.seq + d), 0.0);
      EXPECT_EQ(c.dqkv.get(c.v_offset + i * c.params.dq.seq + d), 0.0);
    }
  }
}

TEST(Attention, NoKeysAtAll) {
  Case c({.seq_q = 5, .seq_k = 0, .head_dim = 4});
  c.run();
  EXPECT_EQ(compare(c).ratio, 0.0);
}

TEST(Attention, TheCheckSeesAScaleThatIsOffByOnePercent) {
  for (DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    Case c({.seq_q = 65,
            .seq_k = 65,
            .head_dim = 64,
            .dtype = dtype,
            .out_dtype = dtype,
            .grad_dtype = dtype,
            .causal = true});
    c.run();
    EXPECT_LT(compare(c).ratio, 1.0);
    EXPECT_GT(compare(c, 0.01).ratio, dtype == DType::f32 ? 100.0 : 1.5) << name(dtype);
  }
}

std::string message(const AttentionParams& params) {
  try {
    check_attention(params);
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(Attention, RefusesWhatItCannotDo) {
  const AttentionParams good{.seq_q = 4, .seq_k = 4, .head_dim = 8};
  EXPECT_EQ(message(good), "");
  AttentionParams p = good;
  p.head_dim = 257;
  EXPECT_NE(message(p).find("[attention] head size 257 is outside 1..256"), std::string::npos);
  p = good;
  p.heads = 8;
  p.kv_heads = 3;
  EXPECT_NE(message(p).find("3 key/value heads do not divide 8 query heads"), std::string::npos);
  p = good;
  p.dtype = DType::f64;
  EXPECT_NE(message(p).find("queries, keys and values are f64"), std::string::npos);
  p = good;
  p.dropout = 1.0f;
  EXPECT_NE(message(p).find("dropout 1 is outside [0, 1)"), std::string::npos);
  p = good;
  const int32_t segments[4] = {};
  p.segments_q = segments;
  EXPECT_NE(message(p).find("segments are given for queries only"), std::string::npos);
  p = good;
  p.seq_k = -1;
  EXPECT_NE(message(p).find("seq_k -1"), std::string::npos);
}

}  // namespace
}  // namespace espalier::cpu
