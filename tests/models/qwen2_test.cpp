// SPDX-License-Identifier: Apache-2.0
// The module tree of Qwen2, its configurations, and rotary positions.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "espalier/interp/interp.h"
#include "espalier/models/qwen2_forward.h"
#include "espalier/nn/rotary.h"
#include "tests/support/errors.h"

namespace espalier::models {
namespace {

using test::error_of;
using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(Qwen2Tree, HalfABillionHasTheParametersOfHuggingFace) {
  const Qwen2ForCausalLm model(qwen2_config("qwen2-0.5b"));
  EXPECT_EQ(nn::param_count(model), 494'032'768);
  EXPECT_EQ(nn::param_paths(model).size(), 290u);
  EXPECT_EQ(nn::param_at(model, "lm_head.weight").tied_to, "model.embed_tokens.weight");
  EXPECT_EQ(nn::param_at(model, "model.layers.23.self_attn.k_proj.weight").shape,
            (Shape{128, 896}));
}

TEST(Qwen2Tree, SevenBillionIsNotTied) {
  const Qwen2ForCausalLm model(qwen2_config("qwen2-7b"));
  EXPECT_EQ(nn::param_count(model), 7'615'616'512);
  EXPECT_EQ(nn::param_at(model, "lm_head.weight").tied_to, "");
}

TEST(Qwen2Tree, PathsAndShapesAreThoseOfAPublishedCheckpoint) {
  const auto folder =
      std::filesystem::path(ESPALIER_SOURCE_DIR) / "../shared/data/tokenizers/qwen2";
  std::ifstream names(folder / "Qwen2-0.5B-Instruct.weight-names.json");
  if (!names) GTEST_SKIP() << "no " << folder;
  const nlohmann::json tensors = nlohmann::json::parse(names).at("tensors");
  const Qwen2ForCausalLm model(read_qwen2_config(folder / "Qwen2-0.5B-Instruct.config.json"));
  size_t count = 0;
  nn::for_each_param(model, [&](std::string_view path, const nn::Param& p) {
    ASSERT_TRUE(tensors.contains(path)) << path;
    EXPECT_EQ(Shape(tensors.at(std::string(path)).at("shape").get<std::vector<int64_t>>()), p.shape)
        << path;
    ++count;
  });
  EXPECT_EQ(count, tensors.size());
}

TEST(Qwen2Tree, SizesThatCannotBeAreErrors) {
  Qwen2Config c;
  c.num_key_value_heads = 4;
  EXPECT_THAT(error_of([&] { Qwen2ForCausalLm model(c); }),
              HasSubstr("num_key_value_heads = 4 does not divide num_attention_heads = 14"));
  c = {};
  c.num_attention_heads = 128;
  c.num_key_value_heads = 2;
  EXPECT_THAT(error_of([&] { Qwen2ForCausalLm model(c); }),
              HasSubstr("need an even head size, hidden_size 896 over 128 heads is 7"));
}

TEST(Qwen2ConfigFile, ReadsItsOwnTextAndTheDefaultsOfTheFormat) {
  const Qwen2Config c = parse_qwen2_config(qwen2_config_json(qwen2_config("qwen2-7b")), "c");
  EXPECT_EQ(c.num_hidden_layers, 28);
  EXPECT_FALSE(c.tie_word_embeddings);
  EXPECT_EQ(parse_qwen2_config(R"({"num_attention_heads": 8})", "c").num_key_value_heads, 8);
  EXPECT_EQ(parse_qwen2_config(R"({"rope_parameters": {"rope_theta": 5e5}})", "c").rope_theta, 5e5);
  EXPECT_EQ(parse_qwen2_config(R"({"rope_theta": 1e4, "rope_scaling": null})", "c").rope_theta,
            1e4);
}

TEST(Qwen2ConfigFile, UnsupportedOptionsAreAllNamed) {
  EXPECT_THAT(
      error_of([] {
        parse_qwen2_config(R"({"use_sliding_window": true, "hidden_act": "gelu", "head_dim": 128,
                               "rope_scaling": {"type": "yarn"},
                               "layer_types": ["full_attention", "sliding_attention"]})",
                           "config.json");
      }),
      AllOf(HasSubstr("[qwen2] config.json asks for what this model lacks: "),
            HasSubstr("use_sliding_window = true (only false is supported)"),
            HasSubstr("hidden_act = \"gelu\" (only \"silu\" is supported)"),
            HasSubstr("head_dim = 128 (only hidden_size / num_attention_heads = 64 is supported)"),
            HasSubstr("rope_scaling.type = \"yarn\" (only \"default\" is supported)"),
            HasSubstr("layer_types = \"sliding_attention\"")));
}

/// x [1, seq, 1, head_size] turned by `positions`.
std::vector<double> rotate(const std::vector<double>& x, const std::vector<int64_t>& positions,
                           int64_t head_size) {
  ir::Builder builder;
  const auto seq = static_cast<int64_t>(positions.size());
  const ir::TensorType of_x{DType::f64, {1, seq, 1, head_size}}, of_at{DType::i64, {1, seq}};
  const Tensor in(builder, builder.input("x", of_x, "batch"));
  const Tensor at(builder, builder.input("at", of_at, "batch"));
  const nn::Rotary rotary(at, head_size, 1e4);
  builder.output("out", rotary(convert(in, DType::f32)).value());
  const std::vector<interp::DoubleTensor> inputs{
      {of_x, x}, {of_at, std::vector<double>(positions.begin(), positions.end())}};
  return interp::evaluate(builder.finish(), inputs).front().data;
}

TEST(Rotary, DotProductsDependOnDistancesAlone) {
  const int64_t size = 6;
  const std::vector<double> x{0.3, -1.0, 0.5, 0.9, 0.1, -0.7, 1.2, 0.4, -0.2, 0.6, -0.9, 0.8};
  const auto product = [&](int64_t first, int64_t second) {
    const std::vector<double> y = rotate(x, {first, second}, size);
    double sum = 0.0;
    for (size_t i = 0; i < 6; ++i) sum += y[i] * y[6 + i];
    return sum;
  };
  EXPECT_EQ(rotate(x, {0, 0}, size), x);
  EXPECT_NEAR(product(2, 7), product(13, 18), 1e-12);
  EXPECT_GT(std::abs(product(2, 7) - product(2, 8)), 1e-3);
  // The first plane turns by one radian a position, with its second half three elements on.
  const std::vector<double> y = rotate(x, {1, 0}, size);
  EXPECT_NEAR(y[0], x[0] * std::cos(1.0) - x[3] * std::sin(1.0), 1e-12);
  EXPECT_NEAR(y[3], x[3] * std::cos(1.0) + x[0] * std::sin(1.0), 1e-12);
}

}  // namespace
}  // namespace espalier::models
