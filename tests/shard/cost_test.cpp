// SPDX-License-Identifier: Apache-2.0
// Collectives against textbook counts, by hand on two products.
#include "espalier/shard/cost.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/errors.h"

namespace espalier::shard {
namespace {

using test::error_of;
using ::testing::HasSubstr;

Device round_device() {
  return {.key = "round",
          .name = "round numbers",
          .f32_flops = 1e12,
          .bf16_flops = 1e12,
          .f16_flops = 1e12,
          .memory_bytes = 1e9,
          .memory_bandwidth = 1e11,
          .link_bandwidth = 1e9,
          .link_latency = 1e-6};
}

/// up [128, 64], down [64, 128], 10 rows a sample.
std::vector<CostParam> params(const PartitionSpec& up, const PartitionSpec& down) {
  return {{"layers.0.up", {128, 64}, DType::f32, true, up},
          {"layers.0.down", {64, 128}, DType::f32, true, down}};
}
Workload work() {
  Workload w;
  w.products.push_back(
      {.weight = "layers.0.up", .rows = 10, .input = 1, .consumer = "layers.0.down"});
  w.products.push_back({.weight = "layers.0.down", .rows = 10, .input = 2, .consumer = {}});
  w.activations.push_back({"", 640.0});
  w.activations.push_back({"layers.0.up", 1280.0});
  return w;
}
Cost cost_of(const PartitionSpec& up, const PartitionSpec& down, const std::string& mesh,
             CostOptions options) {
  return estimate(params(up, down), work(), Mesh::parse(mesh), round_device(), options);
}
const CostOptions kOptions{.batch = 8, .compute_dtype = DType::bf16, .model_axes = {"model"}};
constexpr double kWeights = 2 * 128 * 64;

const Collective* find(const Cost& cost, CollectiveKind kind, std::string_view what) {
  for (const Collective& c : cost.collectives) {
    if (c.kind == kind && c.what == what) return &c;
  }
  return nullptr;
}

TEST(Cost, OneDeviceNeedsNoCollectives) {
  const Cost cost = cost_of({}, {}, "", kOptions);
  EXPECT_TRUE(cost.collectives.empty());
  EXPECT_EQ(cost.parameters, 2 * 128 * 64);
  EXPECT_EQ(cost.parameter_bytes, 4 * kWeights);
  EXPECT_EQ(cost.gradient_bytes, 4 * kWeights);
  EXPECT_EQ(cost.moment_bytes, 8 * kWeights);
  EXPECT_EQ(cost.activation_bytes, 8 * (640 + 1280) * 2);
  EXPECT_EQ(cost.flops, 6 * 8 * 10 * kWeights);
  EXPECT_EQ(cost.network_seconds, 0.0);
}

TEST(Cost, DataParallelSumsGradients) {
  const Cost cost = cost_of({}, {}, "data=4", kOptions);
  ASSERT_EQ(cost.collectives.size(), 1u);
  const Collective& c = cost.collectives[0];
  EXPECT_EQ(c.kind, CollectiveKind::all_reduce);
  EXPECT_EQ(c.what, "gradients");
  EXPECT_EQ(c.count, 1);  // one layer
  EXPECT_EQ(c.bytes, 4 * kWeights);
  EXPECT_DOUBLE_EQ(c.sent_bytes, 2.0 * 3 / 4 * 4 * kWeights);
  EXPECT_DOUBLE_EQ(c.seconds, c.sent_bytes / 1e9 + 6e-6);
  EXPECT_EQ(cost.local_batch, 2);
  EXPECT_EQ(cost.flops, 6 * 2 * 10 * kWeights);
}

TEST(Cost, FullyShardedGathersTwiceAndScattersOnce) {
  const Cost cost =
      cost_of(PartitionSpec{{"data"}, {}}, PartitionSpec{{}, {"data"}}, "data=4", kOptions);
  ASSERT_EQ(cost.collectives.size(), 3u);
  for (const std::string what : {"parameters, forward", "parameters, backward"}) {
    const Collective* c = find(cost, CollectiveKind::all_gather, what);
    ASSERT_NE(c, nullptr);
    EXPECT_EQ(c->count, 1);
    EXPECT_EQ(c->bytes, 2 * kWeights);  // bf16
    EXPECT_DOUBLE_EQ(c->sent_bytes, 3.0 / 4 * 2 * kWeights);
  }
  const Collective* c = find(cost, CollectiveKind::reduce_scatter, "gradients");
  ASSERT_NE(c, nullptr);
  EXPECT_EQ(c->bytes, 4 * kWeights);  // f32
  EXPECT_DOUBLE_EQ(c->sent_bytes, 3.0 / 4 * 4 * kWeights);
  EXPECT_EQ(cost.parameter_bytes, kWeights);
  EXPECT_EQ(cost.gathered_bytes, 2 * kWeights);
}

TEST(Cost, TensorParallelSumsActivationsOnceEachWay) {
  const Cost cost = cost_of(PartitionSpec{{"model"}, {}}, PartitionSpec{{}, {"model"}},
                            "data=1,model=4", kOptions);
  ASSERT_EQ(cost.collectives.size(), 2u);
  for (const std::string what : {"activations, forward", "activations, backward"}) {
    const Collective* c = find(cost, CollectiveKind::all_reduce, what);
    ASSERT_NE(c, nullptr) << what;
    EXPECT_EQ(c->count, 1);
    EXPECT_EQ(c->bytes, 8 * 10 * 64 * 2);
    EXPECT_TRUE(c->blocking);
  }
  EXPECT_EQ(cost.flops, 6 * 8 * 10 * kWeights / 4);
  EXPECT_EQ(cost.activation_bytes, 8 * (640 + 1280 / 4) * 2);
  EXPECT_EQ(cost.parameter_bytes, kWeights);
}

TEST(Cost, ProductsOfMeshesHaveTheCollectivesOfBoth) {
  const Cost cost = cost_of(PartitionSpec{{"model"}, {"data"}}, PartitionSpec{{"data"}, {"model"}},
                            "data=2,model=4", kOptions);
  EXPECT_EQ(cost.collectives.size(), 5u);
  const Collective* gather = find(cost, CollectiveKind::all_gather, "parameters, forward");
  ASSERT_NE(gather, nullptr);
  EXPECT_EQ(gather->bytes, 2 * kWeights / 4);  // what the model axis leaves
  const Collective* sum = find(cost, CollectiveKind::all_reduce, "activations, forward");
  ASSERT_NE(sum, nullptr);
  EXPECT_EQ(sum->bytes, 4 * 10 * 64 * 2);  // half of the samples
}

TEST(Cost, AColumnCutWhoseResultIsNeededWholeIsGathered) {
  const Cost cost = cost_of(PartitionSpec{{"model"}, {}}, {}, "model=4", kOptions);
  const Collective* c = find(cost, CollectiveKind::all_gather, "activations, forward");
  ASSERT_NE(c, nullptr);
  EXPECT_EQ(c->bytes, 8 * 10 * 128 * 2);
}

TEST(Cost, FrozenParametersCostNoGradientMomentOrCollective) {
  std::vector<CostParam> p = params({}, {});
  p[0].trainable = p[1].trainable = false;
  const Cost cost = estimate(p, work(), Mesh::parse("data=4"), round_device(), kOptions);
  EXPECT_TRUE(cost.collectives.empty());
  EXPECT_EQ(cost.gradient_bytes, 0.0);
  EXPECT_EQ(cost.moment_bytes, 0.0);
  EXPECT_EQ(cost.flops, 4 * 2 * 10 * kWeights);
}

TEST(Cost, ErrorsNameNumbersAndPaths) {
  EXPECT_THAT(error_of([] { cost_of({}, {}, "data=3", kOptions); }),
              HasSubstr("[plan] a batch of 8 samples cannot be dealt out to 3 groups of devices"));
  Workload w = work();
  w.products[0].weight = "layers.0.upp";
  EXPECT_THAT(
      error_of([&] { estimate(params({}, {}), w, Mesh(), round_device(), kOptions); }),
      HasSubstr("the workload names layers.0.upp, which is no parameter; nearest: layers.0.up"));
}

TEST(BlockOf, EndsWithTheFirstListIndex) {
  EXPECT_EQ(block_of("bert.encoder.layer.11.output.dense.weight"), "bert.encoder.layer.11");
  EXPECT_EQ(block_of("bert.embeddings.word_embeddings.weight"), "");
  EXPECT_EQ(block_of("0.weight"), "0");
}

TEST(Device, ComesWithTablesAndReadsOthers) {
  for (const std::string& key : builtin_device_keys()) {
    const Device d = load_device(key);
    EXPECT_GT(d.flops(DType::bf16), 1e9) << key;
    EXPECT_GT(d.memory_bandwidth, 1e9) << key;
  }
  EXPECT_EQ(load_device("tpu-v5e").bf16_flops, 197e12);
  const std::string table(builtin_devices());
  EXPECT_EQ(parse_devices(table, "t").size(), builtin_device_keys().size());
  EXPECT_THAT(error_of([] { load_device("h10"); }),
              HasSubstr("\"h10\" is neither a device (a100, cpu, h100, h200, tpu-v5e) nor a file; "
                        "nearest: h100"));
  EXPECT_THAT(error_of([] { parse_devices("[a]\nf32_flops = 1", "d.toml"); }),
              HasSubstr("device a at d.toml:1 needs a positive number bf16_flops"));
  EXPECT_THAT(error_of([] { parse_devices("x = 1", "d.toml"); }),
              HasSubstr("\"x\" at d.toml:1 stands outside of a device"));
  EXPECT_THAT(error_of([] { parse_devices("", "d.toml"); }),
              HasSubstr("d.toml describes no device"));
  EXPECT_THAT(error_of([&] { parse_devices(table + "\nlink = 3", "d.toml"); }),
              HasSubstr("unknown key \"link\" at d.toml:"));
}

}  // namespace
}  // namespace espalier::shard
