// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>

#include "espalier/base/rng.h"
#include "espalier/interp/interp.h"
#include "espalier/ir/tensor.h"
#include "tests/support/compare.h"

namespace espalier::interp {
namespace {

using testing::close;
using Elements = std::vector<double>;

/// Attention of q [1,2,2,1] over k, v [1,3,1,1]; out and lse.
std::vector<DoubleTensor> attend(const AttentionOptions& options, const std::vector<Elements>& data,
                                 const std::vector<ir::TensorType>& extra_types = {}) {
  ir::Builder b;
  std::vector<DoubleTensor> inputs;
  std::vector<Tensor> in;
  std::vector<ir::TensorType> types{
      {DType::f32, {1, 2, 2, 1}}, {DType::f32, {1, 3, 1, 1}}, {DType::f32, {1, 3, 1, 1}}};
  types.insert(types.end(), extra_types.begin(), extra_types.end());
  for (const ir::TensorType& type : types) {
    in.emplace_back(b, b.input("x", type, "batch"));
    inputs.push_back({type, data.at(inputs.size())});
  }
  AttentionOptions filled = options;
  size_t next = 3;
  for (const ir::TensorType& type : extra_types) {
    if (type.dtype == DType::boolean) filled.key_mask = in[next++];
    if (type.dtype == DType::i64)
      (filled.rng.seed.defined() ? filled.rng.step : filled.rng.seed) = in[next++];
  }
  const Tensor out = scaled_dot_product_attention(in[0], in[1], in[2], filled);
  b.output("out", out.value());
  b.output("lse", {out.value().node, 1});
  return evaluate(b.finish(), inputs);
}

const Elements kQ{1, 2, 3, 4};  // [query, head]
const Elements kK{0, std::log(2.0), 0};
const Elements kV{1, 10, 100};

TEST(Attention, ByHand) {
  const auto got = attend({}, {kQ, kK, kV});
  // Query i of head h has weights 1, 2^q, 1.
  Elements out, lse;
  for (double q : kQ) out.push_back((1 + 10 * std::pow(2, q) + 100) / (2 + std::pow(2, q)));
  for (double q : {1, 3, 2, 4}) lse.push_back(std::log(2 + std::pow(2, q)));  // [head, query]
  EXPECT_TRUE(close(got[0].data, out));
  EXPECT_TRUE(close(got[1].data, lse));
}

TEST(Attention, CausalCountsFromTheEndOfTheKeys) {
  const auto got = attend({.causal = true}, {kQ, kK, kV});
  // 2 queries, 3 keys: query 0 sees keys 0 and 1, query 1 sees all.
  EXPECT_TRUE(close(std::span(got[0].data).first(1), Elements{(1.0 + 10 * 2) / 3.0}));
  EXPECT_TRUE(close(std::span(got[0].data).last(1), Elements{(1 + 10 * 16.0 + 100) / 18.0}));
}

TEST(Attention, AQueryThatSeesNothingGivesZerosAndMinusInfinity) {
  const auto got = attend({}, {kQ, kK, kV, {0, 0, 0}}, {{DType::boolean, {1, 3}}});
  EXPECT_TRUE(testing::same(got[0].data, Elements(4, 0.0)));
  EXPECT_TRUE(testing::same(got[1].data, Elements(4, -HUGE_VAL)));
}

TEST(Attention, MaskedKeysMayHoldAnything) {
  const double nan = std::nan("");
  const auto got =
      attend({}, {kQ, {0, nan, 0}, {1, nan, 100}, {1, 0, 1}}, {{DType::boolean, {1, 3}}});
  EXPECT_TRUE(close(got[0].data, Elements(4, 50.5)));
}

TEST(Attention, DropoutDrawsByTheGlobalElement) {
  const AttentionOptions options{.dropout = 0.5};
  const auto got = attend(options, {kQ, kK, kV, {11}, {3}}, {{DType::i64, {}}, {DType::i64, {}}});
  ir::Builder streams;
  const auto id = static_cast<uint64_t>(streams.random_stream());
  const RngKey key = rng_key(11, 3, id);
  Elements want;
  for (uint64_t i = 0; i < 2; ++i) {
    for (uint64_t h = 0; h < 2; ++h) {
      const double middle = std::pow(2, kQ[i * 2 + h]);
      const double weights[]{1, middle, 1};
      double sum = 0;
      for (uint64_t j = 0; j < 3; ++j) {
        const bool kept = rng_uniform(key, (h * 2 + i) * 3 + j) >= 0.5f;
        if (kept) sum += 2.0 * weights[j] / (2 + middle) * kV[j];
      }
      want.push_back(sum);
    }
  }
  EXPECT_TRUE(close(got[0].data, want));
  const auto plain = attend({}, {kQ, kK, kV});
  EXPECT_TRUE(close(got[1].data, plain[1].data)) << "dropout does not touch lse";
  EXPECT_FALSE(close(got[0].data, plain[0].data));
}

}  // namespace
}  // namespace espalier::interp
