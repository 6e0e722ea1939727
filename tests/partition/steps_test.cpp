// SPDX-License-Identifier: Apache-2.0
// Three optimizer steps of small models on meshes of up to 8 devices equal those of one device:
// loss, gradients, norm, parameters and moments, with dropout, clipping and a schedule.
#include <gmock/gmock.h>

#include "tests/partition/mesh_case.h"
#include "tests/support/errors.h"

namespace espalier::testing {
namespace {

using ::testing::HasSubstr;

std::vector<shard::PlanText> fully_sharded() { return rules({"*=fully_shard(data, 16)"}); }

std::vector<CutPlan> bert_plans() {
  const auto tensor_parallel = shard::preset("bert-tp");
  const auto rows = rules({"*.word_embeddings=row_parallel(model)"});
  const auto columns = rules({"*.word_embeddings=column_parallel(model)"});
  return {
      {"data=2"},
      {"data=8"},
      {"data=2", fully_sharded()},
      {"data=8", fully_sharded()},
      {"model=2", tensor_parallel},
      {"model=4", tensor_parallel},
      {"data=2,model=2", tensor_parallel},
      {"data=2,model=4", tensor_parallel},
      {"data=2,model=2", tensor_parallel + fully_sharded()},
      {"data=4,model=2", tensor_parallel + fully_sharded()},
      {"data=2,model=4", tensor_parallel + fully_sharded()},
      {"model=2,data=2", fully_sharded() + tensor_parallel},
      {"model=4", tensor_parallel + rows},
      {"data=2,model=2", tensor_parallel + rows + fully_sharded()},
      {"data=2,model=2", tensor_parallel + columns},
      {"data=1,model=2", tensor_parallel},
  };
}

std::string title(const CutPlan& cut) {
  std::string text = cut.mesh;
  for (const shard::PlanText& plan : cut.plans) text += " + " + plan.name;
  return text;
}

TEST(BertSteps, AreThoseOfOneDevice) {
  for (const CutPlan& cut : bert_plans()) {
    SCOPED_TRACE(title(cut));
    expect_equal_steps(bert_case(cut));
    if (HasFailure()) return;
  }
}

TEST(BertSteps, KeepGatheredParametersWhereAsked) {
  MeshCase c = bert_case({"data=4", fully_sharded()});
  c.options.regather = false;
  expect_equal_steps(c, 2);
}

TEST(BertSteps, WithoutAPromiseAboutLabelledRowsAreTheSame) {
  for (const char* mesh : {"data=2", "data=4"}) {
    MeshCase c = bert_case({mesh, fully_sharded()});
    c.options.local_indices.clear();
    expect_equal_steps(c, 2);
  }
}

TEST(BertSteps, WithHeadsThatAnAxisDoesNotDivideAreTheSameAndReported) {
  const MeshCase c = bert_case({"model=8", shard::preset("bert-tp")});
  const passes::Partitioned made = expect_equal_steps(c, 2);
  EXPECT_THAT(made.notes, ::testing::Contains(
                              HasSubstr("reshape in scope \"layer.0.attention\" puts operand 0, "
                                        "f32[8,6,16] cut (-,-,model), together over model")));
}

TEST(BertSteps, WithLossScalingAreTheSame) {
  train::StepOptions options{.gradients = true};
  options.compile.compute_dtype = DType::f16;
  expect_equal_steps(bert_case({"data=2,model=2", shard::preset("bert-tp+fsdp")}, options), 2);
}

/// A graph for each part and one for the update: totals of the parts lie as their parameters do.
TEST(BertSteps, OfBatchesInPartsAreTheSame) {
  train::StepOptions options{.grad_norm = true, .gradients = true, .accumulate = 2};
  const auto both = shard::preset("bert-tp") + fully_sharded();
  for (const CutPlan& cut : std::vector<CutPlan>{{"data=4"},
                                                 {"data=4", fully_sharded()},
                                                 {"model=2", shard::preset("bert-tp")},
                                                 {"data=2,model=2", both}}) {
    SCOPED_TRACE(title(cut));
    const MeshCase c = bert_case(cut, options);
    const passes::PartitionOptions& o = c.update_options;
    for (const auto& [path, p] : c.params) {
      EXPECT_EQ(o.inputs.at("sum.grad." + path), p.placement.spec) << path;
    }
    expect_equal_steps(c);
    if (HasFailure()) return;
  }
  options.compile.compute_dtype = DType::f16;
  expect_equal_steps(bert_case({"data=2,model=2", both}, options), 2);
}

TEST(BertSteps, OfAMeshAreRefusedByBackendsOfOneDevice) {
  const MeshCase c = bert_case({"data=2"});
  const ir::Graph made = passes::partition(c.graph, c.options).graph;
  for (const char* backend : {"cpu", "interp"}) {
    EXPECT_THAT(
        test::error_of([&] { compile(made, {.backend = backend}); }),
        HasSubstr(fmt::format("needs a mesh of devices, and backend {} runs one device", backend)));
  }
}

TEST(ByteLmSteps, AreThoseOfOneDevice) {
  const auto cut =
      rules({"*.mlp.up=column_parallel(model)", "*.mlp.down=row_parallel(model)",
             "*.attention.qkv=column_parallel(model)", "*.attention.out=row_parallel(model)"});
  const auto library = models::ByteLmVariant::library;
  // The pieces of the joint projection straddle q, k and v: put together, and cut again by heads.
  const auto count = [](const std::vector<std::string>& notes, std::string_view op) {
    return std::count_if(notes.begin(), notes.end(),
                         [&](const std::string& note) { return note.starts_with(op); });
  };
  const passes::Partitioned joint = expect_equal_steps(byte_lm_case({"model=2", cut}, library), 1);
  EXPECT_EQ(count(joint.notes, "slice"), 2);  // one a layer
  EXPECT_EQ(count(joint.notes, "attention"), 0);
  for (const CutPlan& plan : std::vector<CutPlan>{{"data=8"},
                                                  {"data=4", fully_sharded()},
                                                  {"model=2", cut},
                                                  {"data=2,model=4", cut},
                                                  {"data=2,model=2", cut + fully_sharded()}}) {
    SCOPED_TRACE(title(plan));
    expect_equal_steps(byte_lm_case(plan, library));
    if (HasFailure()) return;
  }
  SCOPED_TRACE("attention from basic ops");
  const CutPlan both{"data=2,model=2", cut};
  expect_equal_steps(byte_lm_case(both, library, false));
  expect_equal_steps(byte_lm_case(both, models::ByteLmVariant::handcraft, false));
}

/// Query, key and value in one weight, cut in each of them: nothing is put together.
TEST(ByteLmSteps, OfAJointProjectionCutByHeadsAreThoseOfOneDevice) {
  const auto cut =
      rules({"*.mlp.up=column_parallel(model)", "*.mlp.down=row_parallel(model)",
             "*.attention.qkv=column_parallel(model, 3)", "*.attention.out=row_parallel(model)"});
  const auto library = models::ByteLmVariant::library;
  for (const CutPlan& plan : std::vector<CutPlan>{{"model=2", cut},
                                                  {"model=4", cut},
                                                  {"data=2,model=4", cut},
                                                  {"data=2,model=2", cut + fully_sharded()}}) {
    SCOPED_TRACE(title(plan));
    const passes::Partitioned made = expect_equal_steps(byte_lm_case(plan, library));
    EXPECT_EQ(made.notes, std::vector<std::string>{});
    if (HasFailure()) return;
  }
  SCOPED_TRACE("attention from basic ops");
  const CutPlan both{"data=2,model=2", cut};
  expect_equal_steps(byte_lm_case(both, library, false));
  expect_equal_steps(byte_lm_case(both, models::ByteLmVariant::handcraft, false));
}

}  // namespace
}  // namespace espalier::testing
