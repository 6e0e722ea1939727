// SPDX-License-Identifier: Apache-2.0
#include "espalier/models/byte_lm.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "espalier/base/error.h"
#include "espalier/interp/interp.h"
#include "tests/support/errors.h"

namespace espalier::models {
namespace {

using test::error_of;
using ::testing::HasSubstr;

constexpr ByteLmConfig kTiny{
    .vocab = 256, .width = 12, .heads = 3, .ffn = 20, .layers = 2, .seq_len = 7, .dropout = 0.25};

struct Traced {
  ir::Graph graph;
  std::vector<std::string> outputs;
};

Traced traced(ByteLm model, ByteLmVariant variant, bool training, int64_t batch = 2,
              int64_t seq = 7) {
  ir::Builder builder;
  nn::Hooks hooks({"*"});
  nn::Context context{.training = training, .rng = {}, .hooks = &hooks};
  if (training) {
    context.rng.seed = {builder, builder.input("seed", {DType::i64, {}}, "state")};
    context.rng.step = {builder, builder.input("step", {DType::i64, {}}, "state")};
  }
  nn::bind(model, builder);
  const Tensor bytes = byte_lm_input(builder, batch, seq);
  const Tensor logits = byte_lm_logits(model, variant, bytes, context);
  builder.output("logits", logits.value());
  builder.output("loss", byte_lm_loss(variant, logits, bytes).value());
  for (const auto& [name, value] : hooks.found()) builder.output(name, value.value());
  Traced result{builder.finish(), {}};
  for (const ir::Output& output : result.graph.outputs()) result.outputs.push_back(output.name);
  return result;
}

/// Evaluates with random parameters (none zero, so that each matters) and bytes.
std::vector<interp::DoubleTensor> evaluated(const ir::Graph& graph, double last_byte = 17.0) {
  std::vector<interp::DoubleTensor> inputs;
  for (int32_t id : graph.inputs()) {
    const ir::Node& node = graph.node(id);
    const std::string& name = node.attrs.text(ir::Attr::name);
    interp::DoubleTensor value{node.types[0], {}};
    value.data.resize(static_cast<size_t>(node.types[0].shape.numel()), 5.0);
    if (node.attrs.text(ir::Attr::role) == "parameter") {
      std::vector<float> drawn(value.data.size());
      fill(nn::Init::normal(0.4), 1, name, 0, drawn);
      std::copy(drawn.begin(), drawn.end(), value.data.begin());
    } else if (name == "batch.bytes") {
      for (size_t i = 0; i < value.data.size(); ++i) value.data[i] = double((i * 37) % 256);
      value.data.back() = last_byte;
    }
    inputs.push_back(std::move(value));
  }
  return interp::evaluate(graph, inputs);
}

TEST(ByteLm, ParameterPathsAreThoseOfTheGoldens) {
  const std::vector<std::string> paths = nn::param_paths(ByteLm(kTiny));
  EXPECT_EQ(paths.size(), 2u + 2u * 12u + 2u);
  EXPECT_EQ(paths[0], "embedding.weight");
  EXPECT_EQ(paths[1], "position.weight");
  const std::set<std::string> known(paths.begin(), paths.end());
  for (const char* path :
       {"layers.1.norm1.bias", "layers.0.attention.qkv.weight", "layers.1.attention.out.bias",
        "layers.0.mlp.up.weight", "layers.1.mlp.down.bias", "decoder.weight", "decoder.bias"}) {
    EXPECT_TRUE(known.contains(path)) << path;
  }
  EXPECT_EQ(nn::param_count(ByteLm(ByteLmConfig{})), 25'612'544);
}

TEST(ByteLm, SizeAndWorkAreThoseOfTheSpecification) {
  EXPECT_NEAR(byte_lm_train_flops({}) * 1e-9, 40.47, 0.005);
}

TEST(ByteLm, BothVariantsComputeTheSame) {
  for (bool training : {false, true}) {
    const Traced library = traced(ByteLm(kTiny), ByteLmVariant::library, training);
    const Traced handcraft = traced(ByteLm(kTiny), ByteLmVariant::handcraft, training);
    ASSERT_EQ(library.outputs, handcraft.outputs);
    ASSERT_EQ(library.outputs.size(), 2u + 1u + 2u * 5u);
    const auto want = evaluated(library.graph);
    const auto got = evaluated(handcraft.graph);
    for (size_t i = 0; i < want.size(); ++i) {
      ASSERT_EQ(got[i].data.size(), want[i].data.size());
      for (size_t e = 0; e < want[i].data.size(); ++e) {
        ASSERT_NEAR(got[i].data[e], want[i].data[e], 1e-12) << library.outputs[i] << " " << e;
      }
    }
  }
}

TEST(ByteLm, RandomStreamsAreDistinctAndTheSameInBothVariants) {
  const auto streams = [](const ir::Graph& graph) {
    std::vector<std::pair<std::string, int64_t>> ids;
    for (const ir::Node& node : graph.nodes()) {
      if (node.op == ir::Op::random_uniform) {
        ids.emplace_back(*node.scope, node.attrs.integer(ir::Attr::id));
      }
    }
    return ids;
  };
  const auto library = streams(traced(ByteLm(kTiny), ByteLmVariant::library, true).graph);
  EXPECT_EQ(library, streams(traced(ByteLm(kTiny), ByteLmVariant::handcraft, true).graph));
  // After the embedding, after the attention's projection, inside and after the feed-forward.
  EXPECT_EQ(library.size(), 1u + 2u * 3u);
  std::set<int64_t> distinct;
  for (const auto& [scope, id] : library) distinct.insert(id);
  EXPECT_EQ(distinct.size(), library.size());
}

TEST(ByteLm, HandcraftUsesBasicOpsOnly) {
  const ir::Graph graph = traced(ByteLm(kTiny), ByteLmVariant::handcraft, true).graph;
  for (const ir::Node& node : graph.nodes()) {
    EXPECT_FALSE(ir::has_trait(node.op, ir::kComposite)) << ir::name(node.op);
  }
}

TEST(ByteLm, NoPositionSeesItsOwnByte) {
  const ir::Graph graph = traced(ByteLm(kTiny), ByteLmVariant::library, false).graph;
  // The last byte predicts nothing; only the loss depends on it.
  const auto one = evaluated(graph, 17.0);
  const auto other = evaluated(graph, 200.0);
  EXPECT_EQ(one[0].data, other[0].data);
  EXPECT_NE(one[1].data, other[1].data);
}

TEST(ByteLm, TheFirstPositionStartsFromTheZeroVector) {
  ByteLm model(kTiny);
  const ir::Graph graph = traced(model, ByteLmVariant::library, false).graph;
  const auto results = evaluated(graph);
  std::vector<float> position(7 * 12);
  fill(nn::Init::normal(0.4), 1, "param.position.weight", 0, position);
  for (size_t i = 0; i < 12; ++i) EXPECT_EQ(results[2].data[i], position[i]);  // hook embed
}

TEST(ByteLm, ShorterSequencesAndSinglePositionsWork) {
  for (int64_t seq : {1, 2, 5}) {
    const auto results =
        evaluated(traced(ByteLm(kTiny), ByteLmVariant::library, false, 1, seq).graph);
    EXPECT_TRUE(std::isfinite(results[1].data[0])) << seq;
  }
}

TEST(ByteLm, WrongSizesAreErrorsThatNameThem) {
  EXPECT_THAT(error_of([] { ByteLm(ByteLmConfig{.heads = 7}); }),
              HasSubstr("[attention] heads = 7 do not divide width = 512"));
  EXPECT_THAT(error_of([] { ByteLm(ByteLmConfig{.layers = 0}); }),
              HasSubstr("layers = 0 must be positive"));
  EXPECT_THAT(error_of([] { ByteLm(ByteLmConfig{.vocab = 257}); }),
              HasSubstr("vocab = 257 is more than 256 bytes"));
  EXPECT_THAT(error_of([] { ByteLm(ByteLmConfig{.dropout = 1.0}); }),
              HasSubstr("dropout = 1 is outside [0, 1)"));
  EXPECT_THAT(error_of([] { traced(ByteLm(kTiny), ByteLmVariant::library, false, 1, 8); }),
              HasSubstr("seq between 1 and seq_len = 7, got u8[1,8]"));
  EXPECT_THAT(error_of([] { parse_byte_lm_variant("libary"); }), HasSubstr("nearest: library"));
}

TEST(Hooks, GlobsThatMatchNothingAreErrors) {
  nn::Hooks hooks({"resid_pre.*", "resid_past.0"});
  hooks.offer("resid_pre.0", {});
  hooks.offer("resid_post.0", {});
  EXPECT_THAT(error_of([&] { hooks.check_all_matched(); }),
              HasSubstr("\"resid_past.0\" matched none of 2 hooks; nearest: resid_post.0"));
}

}  // namespace
}  // namespace espalier::models
