// SPDX-License-Identifier: Apache-2.0
#include "espalier/nn/shard_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "espalier/nn/embedding.h"
#include "espalier/nn/layer_norm.h"
#include "espalier/nn/linear.h"
#include "tests/support/errors.h"

namespace espalier::nn {
namespace {

using shard::Mesh;
using shard::PartitionSpec;
using test::error_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Block : Module<Block> {
  LayerNorm norm{64};
  Linear up{64, 128}, down{128, 64};
  static constexpr auto fields =
      nn::fields(&Block::norm, "norm", &Block::up, "up", &Block::down, "down");
};

struct Model : Module<Model> {
  Embedding embedding{96, 64, Init::normal(1.0)};
  std::vector<Block> layers{Block(), Block()};
  Linear head{64, 96, {.bias = false}};
  static constexpr auto fields =
      nn::fields(&Model::embedding, "embedding", &Model::layers, "layers", &Model::head, "head");
  Model() { head.weight.tied_to = "embedding.weight"; }
};

const Mesh kMesh = Mesh::parse("data=2,model=4");

PartitionSpec spec_of(const Model& model, std::string_view path) {
  return param_at(model, path).placement.spec;
}

TEST(ShardPlan, ColumnAndRowCutTheWeightsAndTheColumnsBias) {
  const auto [model, report] = apply_plans(
      Model(), kMesh,
      {Plan("tp").add("*.up", column_parallel("model")).add("*.down", row_parallel("model"))});
  EXPECT_EQ(report.hit_count(), 4);
  EXPECT_EQ(spec_of(model, "layers.1.up.weight"), (PartitionSpec{{"model"}, {}}));
  EXPECT_EQ(spec_of(model, "layers.1.up.bias"), (PartitionSpec{{"model"}, {}}));
  EXPECT_EQ(spec_of(model, "layers.1.down.weight"), (PartitionSpec{{}, {"model"}}));
  EXPECT_TRUE(spec_of(model, "layers.1.down.bias").replicated());
  EXPECT_TRUE(spec_of(model, "layers.1.norm.weight").replicated());
}

TEST(ShardPlan, EmbeddingsCutTheWidthOrTheRows) {
  EXPECT_EQ(
      spec_of(apply_transforms(Model(), Plan().add("embedding", column_parallel("model")), kMesh),
              "embedding.weight"),
      (PartitionSpec{{}, {"model"}}));
  EXPECT_EQ(
      spec_of(apply_transforms(Model(), Plan().add("embedding", row_parallel("model")), kMesh),
              "embedding.weight"),
      (PartitionSpec{{"model"}, {}}));
}

TEST(ShardPlan, TheFirstRuleThatMatchesAPathTakesIt) {
  const auto [model, report] = apply_plans(Model(), kMesh,
                                           {Plan("tp")
                                                .add("layers.0.up", replicate())
                                                .add("*.up", column_parallel("model"))
                                                .add("layers.?.up", row_parallel("model"))});
  EXPECT_TRUE(spec_of(model, "layers.0.up.weight").replicated());
  EXPECT_EQ(spec_of(model, "layers.1.up.weight"), (PartitionSpec{{"model"}, {}}));
  EXPECT_THAT(report.shadowed(), ElementsAre(2));
  EXPECT_EQ(report.rules[2].matches, 2);
  EXPECT_EQ(report.rules[2].hits, 0);
  EXPECT_EQ(report.rules[2].shadowed_by, 0);
  EXPECT_EQ(report.rule_text(2), "'layers.?.up=row_parallel(model)' of plan tp");
}

TEST(ShardPlan, TheInnerModuleComesFirstAndTheOuterTransformSeesIt) {
  std::vector<std::string> seen;
  const auto widen = transform<Linear>([&](Linear layer) {
    seen.push_back("inner " + layer.weight.shape.str());
    return Linear(32, 128);
  });
  const auto look = transform<Block>([&](Block block) {
    seen.push_back("outer " + block.up.weight.shape.str());
    block.down = Linear(128, 32);
    return block;
  });
  const auto placed =
      apply_plans(Model(), kMesh, {Plan().add("layers.0", look).add("layers.0.up", widen)});
  EXPECT_THAT(seen, ElementsAre("inner [128,64]", "outer [128,32]"));
  EXPECT_EQ(placed.model.layers[0].up.weight.shape, (Shape{128, 32}));
  EXPECT_EQ(placed.model.layers[0].down.weight.shape, (Shape{32, 128}));
}

TEST(ShardPlan, AWholeTreeCanBeFullyShardedByOneStar) {
  const auto [model, report] =
      apply_plans(Model(), kMesh, {Plan("fsdp").add("*", fully_shard("data", 100))});
  EXPECT_EQ(spec_of(model, "embedding.weight"), (PartitionSpec{{"data"}, {}}));
  EXPECT_EQ(spec_of(model, "layers.0.up.weight"), (PartitionSpec{{"data"}, {}}));
  EXPECT_EQ(spec_of(model, "layers.0.down.weight"), (PartitionSpec{{}, {"data"}}));
  EXPECT_TRUE(spec_of(model, "layers.0.norm.weight").replicated());  // 64 elements
  EXPECT_EQ(spec_of(model, "layers.0.up.bias"), (PartitionSpec{{"data"}, {}}));
  EXPECT_THAT(report.notes, ElementsAre());
}

TEST(ShardPlan, ParametersThatNoAxisDividesStayWholeAndAreReported) {
  const auto [model, report] = apply_plans(Model(), Mesh::parse("data=5"),
                                           {Plan().add("layers.0.up", fully_shard("data", 1))});
  EXPECT_TRUE(spec_of(model, "layers.0.up.weight").replicated());
  EXPECT_THAT(report.notes,
              ElementsAre("layers.0.up.weight [128,64] stays whole: axis data of 5 devices divides "
                          "none of its dimensions",
                          "layers.0.up.bias [128] stays whole: axis data of 5 devices divides none "
                          "of its dimensions"));
}

TEST(ShardPlan, PlansAreAppliedInSequence) {
  const auto [model, report] = apply_plans(
      Model(), kMesh,
      {Plan("tp").add("*.up", column_parallel("model")).add("*.down", row_parallel("model")),
       Plan("fsdp").add("*", fully_shard("data"))});
  EXPECT_EQ(spec_of(model, "layers.0.up.weight"), (PartitionSpec{{"model"}, {"data"}}));
  EXPECT_EQ(spec_of(model, "layers.0.down.weight"), (PartitionSpec{{"data"}, {"model"}}));
  EXPECT_EQ(report.rules.back().plan, 1);
}

TEST(ShardPlan, TensorParallelCutsAGivenDimension) {
  const Model model =
      apply_transforms(Model(), Plan().add("layers.0", tensor_parallel("model", 1)), kMesh);
  EXPECT_EQ(spec_of(model, "layers.0.up.weight"), (PartitionSpec{{}, {"model"}}));
  EXPECT_TRUE(spec_of(model, "layers.0.up.bias").replicated());
  EXPECT_THAT(error_of([] {
                apply_transforms(Model(), Plan().add("*.up.bias", tensor_parallel("model", 1)),
                                 kMesh);
              }),
              HasSubstr("there is no dimension 1 in [128] (at layers.0.up.bias"));
}

TEST(ShardPlan, FreezeAndWithDtypeReachParametersAndModules) {
  const auto placed =
      apply_plans(Model(), kMesh,
                  {Plan().add("*.bias", freeze()).add("*.norm", with_dtype(DType::bf16)),
                   Plan().add("head", freeze())});
  EXPECT_FALSE(placed.model.layers[1].up.bias->trainable);
  EXPECT_TRUE(placed.model.layers[1].up.weight.trainable);
  EXPECT_EQ(placed.model.layers[0].norm.weight.dtype, DType::bf16);
  // The head is a second path of the embedding: one leaf.
  EXPECT_FALSE(placed.model.embedding.weight.trainable);
}

TEST(ShardPlan, TiedLeavesAreOnePlacement) {
  const auto [model, report] =
      apply_plans(Model(), kMesh, {Plan("tp").add("head", column_parallel("model"))});
  EXPECT_EQ(spec_of(model, "embedding.weight"), (PartitionSpec{{"model"}, {}}));
  EXPECT_EQ(spec_of(model, "head.weight"), (PartitionSpec{{"model"}, {}}));
  EXPECT_THAT(error_of([] {
                apply_transforms(Model(),
                                 Plan("tp")
                                     .add("head", column_parallel("model"))
                                     .add("embedding", column_parallel("model")),
                                 kMesh);
              }),
              HasSubstr("embedding.weight and head.weight are one parameter [96,64]: rule "
                        "'embedding=column_parallel(model)' of plan tp cuts dimension 1 along "
                        "model, rule 'head=column_parallel(model)' of plan tp dimension 0"));
}

TEST(ShardPlan, AnEarlierReplicateKeepsParametersWhole) {
  const auto rest = [](Plan plan) { return apply_transforms(Model(), plan, kMesh); };
  const Model pinned = rest(Plan().add("*.up", replicate()).add("*", fully_shard("data", 1)));
  EXPECT_TRUE(spec_of(pinned, "layers.0.norm.weight").dim_of("data") == 0);
  EXPECT_TRUE(spec_of(pinned, "layers.0.up.weight").replicated() ||
              spec_of(pinned, "layers.0.up.weight").dim_of("data") == 0);
  // As the fallback behind other rules it changes nothing that they cut.
  const Model fallback = rest(Plan().add("*.up", column_parallel("model")).add("*", replicate()));
  EXPECT_EQ(spec_of(fallback, "layers.0.up.weight"), (PartitionSpec{{"model"}, {}}));
  EXPECT_TRUE(spec_of(fallback, "layers.0.down.weight").replicated());
}

TEST(ShardPlan, ExplainNamesRulesAndPlacesOfEveryParameter) {
  const auto [model, report] =
      apply_plans(Model(), kMesh,
                  {Plan("tp").add("*.up", column_parallel("model")).add("head", freeze()),
                   Plan("fsdp").add("layers.*", fully_shard("data"))});
  const std::vector<ParamPlacement> all = explain(model, report, kMesh);
  ASSERT_EQ(all.size(), 13u);
  EXPECT_EQ(all[0].path, "embedding.weight");
  EXPECT_THAT(all[0].tied_paths, ElementsAre("head.weight"));
  EXPECT_THAT(all[0].rules, ElementsAre(1));
  EXPECT_FALSE(all[0].trainable);
  EXPECT_EQ(all[3].path, "layers.0.up.weight");
  EXPECT_THAT(all[3].rules, ElementsAre(2, 0, 2, 2));  // the leaf, .up in both plans, layers.0
  EXPECT_EQ(all[3].local_shape, (Shape{32, 32}));
  EXPECT_EQ(all[3].local_bytes(), 32 * 32 * 4);
}

TEST(ShardPlanErrors, ARuleThatMatchesNothingNamesTheNearestPath) {
  const auto apply = [](Plan plan) { apply_plans(Model(), kMesh, {plan}); };
  EXPECT_THAT(error_of([&] { apply(Plan("tp").add("*.upp", column_parallel("model"))); }),
              HasSubstr("[plan] rule '*.upp=column_parallel(model)' of plan tp matches no module; "
                        "nearest: layers.0.up"));
  EXPECT_THAT(
      error_of([&] { apply(Plan().add("*.up.bais", freeze())); }),
      HasSubstr("rule '*.up.bais=freeze' of plan 1 matches no module or parameter; nearest: "
                "layers.0.up.bias"));
  EXPECT_THAT(error_of([&] { apply(Plan().add("*.UP", freeze())); }), HasSubstr("matches no"));
  // Parallel layers are modules: the path of a parameter is none.
  EXPECT_THAT(error_of([&] { apply(Plan().add("*.up.weight", column_parallel("model"))); }),
              HasSubstr("matches no module; nearest: layers.0.up"));
  const auto placed =
      apply_plans(Model(), kMesh, {Plan().add("*.upp", column_parallel("model"), true)});
  EXPECT_THAT(placed.report.unmatched(), ElementsAre(0));
}

TEST(ShardPlanErrors, AxesAndSizesAreNamed) {
  EXPECT_THAT(error_of([] {
                apply_transforms(Model(), Plan("tp").add("*.up", column_parallel("modle")), kMesh);
              }),
              HasSubstr("the mesh data=2,model=4 has no axis modle; nearest: model (at rule "
                        "'*.up=column_parallel(modle)' of plan tp)"));
  EXPECT_THAT(error_of([] {
                apply_transforms(Model(), Plan("tp").add("*.up", column_parallel("model")),
                                 Mesh::parse("model=3"));
              }),
              HasSubstr("axis model of 3 devices does not divide dimension 0 of [128,64], of size "
                        "128 (at layers.0.up, rule '*.up=column_parallel(model)' of plan tp)"));
  EXPECT_THAT(error_of([] {
                apply_transforms(Model(), Plan().add("*.norm", column_parallel("model")), kMesh);
              }),
              HasSubstr("column_parallel(model) takes a Linear, an Embedding or a layer that lists "
                        "its `parallel` dimensions; layers.0.norm is a LayerNorm"));
  EXPECT_THAT(error_of([] {
                apply_transforms(
                    Model(), Plan().add("*.norm", transform<Linear>([](Linear l) { return l; })),
                    kMesh);
              }),
              HasSubstr("the rule's function takes a Linear; layers.0.norm is a LayerNorm"));
}

TEST(ShardPlanErrors, PlansThatDisagreeAreNamed) {
  const auto apply = [](Plan a, Plan b) { apply_plans(Model(), kMesh, {a, b}); };
  EXPECT_THAT(error_of([&] {
                apply(Plan("a").add("*.0.up", column_parallel("model")),
                      Plan("b").add("*.up", row_parallel("model")));
              }),
              HasSubstr("[plan] two plans disagree about layers.0.up.weight [128,64]: rule "
                        "'*.up=row_parallel(model)' of plan b cuts dimension 1 along model, rule "
                        "'*.0.up=column_parallel(model)' of plan a has cut dimension 0; drop one"));
  EXPECT_THAT(error_of([&] {
                apply(Plan("a").add("*.up", replicate()),
                      Plan("b").add("*.up", column_parallel("model")));
              }),
              HasSubstr("two plans disagree about layers.0.up.weight: rule '*.up=replicate' of "
                        "plan a keeps it whole, rule '*.up=column_parallel(model)' of plan b"));
  EXPECT_THAT(error_of([&] {
                apply(Plan("a").add("*.up", column_parallel("model")),
                      Plan("b").add("*.up", replicate()));
              }),
              HasSubstr("two plans disagree about layers.0.up.weight: rule "
                        "'*.up=column_parallel(model)' of plan a cuts it as (model,-), rule "
                        "'*.up=replicate' of plan b keeps it whole"));
}

/// What a user writes: a layer of their own, which takes part in everything.
struct Gated : Module<Gated> {
  Param gate{Shape{32, 16}}, value{Shape{32, 16}}, scale{Shape{16}};
  static constexpr auto fields =
      nn::fields(&Gated::gate, "gate", &Gated::value, "value", &Gated::scale, "scale");
  static constexpr std::array parallel{ParallelDims{"gate", 0, 1}, ParallelDims{"value", 0, 1},
                                       ParallelDims{"scale", -1, 0}};
};
struct Own : Module<Own> {
  Gated gated;
  static constexpr auto fields = nn::fields(&Own::gated, "gated");
};

TEST(ShardPlan, OwnLayersListTheirParallelDimensions) {
  const Own column = apply_transforms(Own(), Plan().add("gated", column_parallel("model")), kMesh);
  EXPECT_EQ(column.gated.gate.placement.spec, (PartitionSpec{{"model"}, {}}));
  EXPECT_TRUE(column.gated.scale.placement.spec.replicated());
  const Own row = apply_transforms(Own(), Plan().add("gated", row_parallel("model")), kMesh);
  EXPECT_EQ(row.gated.value.placement.spec, (PartitionSpec{{}, {"model"}}));
  EXPECT_EQ(row.gated.scale.placement.spec, (PartitionSpec{{"model"}, {}}));
}

}  // namespace
}  // namespace espalier::nn
