// SPDX-License-Identifier: Apache-2.0
// Small graphs before and after, random graphs on random places, and what is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "espalier/interp/mesh.h"
#include "espalier/passes/partition.h"
#include "espalier/passes/partition_factors.h"
#include "tests/support/compare.h"
#include "tests/support/errors.h"
#include "tests/support/random_graph.h"

namespace espalier::passes {
namespace {

using shard::Mesh;
using shard::PartitionSpec;
using test::error_of;
using ::testing::HasSubstr;

/// Partitions, and compares both graphs on random inputs.
Partitioned expect_same_meaning(const ir::Graph& graph, const PartitionOptions& options,
                                uint64_t seed = 1) {
  Partitioned made = partition(graph, options);
  const std::vector<interp::DoubleTensor> inputs = testing::random_inputs(graph, seed);
  const auto want = interp::evaluate(graph, inputs);
  interp::OnMesh pieces;
  for (int64_t rank = 0; rank < options.mesh.devices(); ++rank) {
    pieces.emplace_back();
    for (size_t i = 0; i < inputs.size(); ++i) {
      pieces.back().push_back(interp::take_piece(inputs[i], made.inputs[i], options.mesh, rank));
    }
  }
  const interp::OnMesh got = interp::evaluate_on_mesh(made.graph, options.mesh, pieces);
  for (size_t o = 0; o < want.size(); ++o) {
    for (size_t r = 0; r < got.size(); ++r) {
      const auto piece =
          interp::take_piece(want[o], made.outputs[o], options.mesh, static_cast<int64_t>(r));
      EXPECT_TRUE(testing::close(got[r][o].data, piece.data, 1e-9, 1e-9))
          << "output " << graph.outputs()[o].name << " of rank " << r;
    }
  }
  return made;
}

struct Golden {
  const char* title;
  const char* mesh;
  std::map<std::string, PartitionSpec> inputs;
  const char* before;
  const char* after;
};

const std::vector<Golden>& goldens() {
  static const std::vector<Golden> all{
      {"a cut sum stays a sum of parts until it is needed",
       "model=2",
       {{"x", {{}, {"model"}}}, {"w", {{}, {"model"}}}},
       R"(graph g {
  %0 = input {name="x", role="batch"} : f32[2,4]
  %1 = input {name="w", role="parameter"} : f32[6,4]
  %2 = dot %0, %1 {lhs_contract=[1], rhs_contract=[1]} : f32[2,6]
  %3 = transpose %2 {permutation=[1,0]} : f32[6,2]
  %4 = tanh %3 : f32[6,2]
  return y=%4
})",
       R"(graph g {
  %0 = input {name="x", role="batch"} : f32[2,2]
  %1 = input {name="w", role="parameter"} : f32[6,2]
  %2 = dot %0, %1 {lhs_contract=[1], rhs_contract=[1]} : f32[2,6]
  %3 = transpose %2 {permutation=[1,0]} : f32[6,2]
  %4 = all_reduce %3 {name="activations", mesh_axes="model", devices=2} : f32[6,2]
  %5 = tanh %4 : f32[6,2]
  return y=%5
}
)"},
      {"parameters are gathered along the axis of the samples",
       "data=2",
       {{"x", {{"data"}, {}}}, {"w", {{"data"}, {}}}},
       R"(graph g {
  %0 = input {name="x", role="batch"} : f32[2,4]
  %1 = input {name="w", role="parameter"} : f32[6,4]
  %2 = dot %0, %1 {lhs_contract=[1], rhs_contract=[1]} : f32[2,6]
  return y=%2
})",
       R"(graph g {
  %0 = input {name="x", role="batch"} : f32[1,4]
  %1 = input {name="w", role="parameter"} : f32[3,4]
  %2 = all_gather %1 {name="parameters", axis=0, mesh_axes="data", devices=2} : f32[6,4]
  %3 = dot %0, %2 {lhs_contract=[1], rhs_contract=[1]} : f32[1,6]
  return y=%3
}
)"},
      {"sums of one place are taken together",
       "model=2",
       {{"x", {{}, {"model"}}}, {"y", {{}, {"model"}}}},
       R"(graph g {
  %0 = input {name="x", role="batch"} : f32[2,4]
  %1 = input {name="y", role="batch"} : f32[2,4]
  %2 = input {name="z", role="batch"} : f32[2]
  %3 = reduce_sum %0 {axes=[1]} : f32[2]
  %4 = reduce_sum %1 {axes=[1]} : f32[2]
  %5 = add %3, %2 : f32[2]
  %6 = sub %5, %4 : f32[2]
  return y=%6
})",
       R"(graph g {
  %0 = input {name="x", role="batch"} : f32[2,2]
  %1 = input {name="y", role="batch"} : f32[2,2]
  %2 = input {name="z", role="batch"} : f32[2]
  %3 = reduce_sum %0 {axes=[1]} : f32[2]
  %4 = reduce_sum %1 {axes=[1]} : f32[2]
  %5 = sub %3, %4 : f32[2]
  %6 = all_reduce %5 {name="activations", mesh_axes="model", devices=2} : f32[2]
  %7 = add %2, %6 : f32[2]
  return y=%7
}
)"},
      {"a gradient goes to the place of the state it changes",
       "data=2",
       {{"x", {{"data"}, {}}}, {"w", {{"data"}}}},
       R"(graph g {
  %0 = input {name="x", role="batch"} : f32[2,4]
  %1 = input {name="w", role="parameter"} : f32[4]
  %2 = reduce_sum %0 {axes=[0]} : f32[4]
  %3 = mul %2, %2 : f32[4]
  %4 = sub %1, %3 : f32[4]
  return w=%4 -> %1
})",
       R"(graph g {
  %0 = input {name="x", role="batch"} : f32[1,4]
  %1 = input {name="w", role="parameter"} : f32[2]
  %2 = reduce_sum %0 {axes=[0]} : f32[4]
  %3 = reduce_scatter %2 {name="gradients", axis=0, mesh_axes="data", devices=2} : f32[2]
  %4 = mul %3, %3 : f32[2]
  %5 = sub %1, %4 : f32[2]
  return w=%5 -> %1
}
)"},
  };
  return all;
}

TEST(Partition, BeforeAndAfter) {
  for (const Golden& g : goldens()) {
    SCOPED_TRACE(g.title);
    const ir::Graph before = ir::parse(g.before);
    const PartitionOptions options{.mesh = Mesh::parse(g.mesh), .inputs = g.inputs};
    EXPECT_EQ(ir::print(expect_same_meaning(before, options).graph), g.after);
  }
}

/// A table cut by rows, its gradient, and a loss over cut classes.
TEST(Partition, RowsOfATableAndClassesOfALossMayBeCut) {
  const char* text = R"(graph g {
  %0 = input {name="ids", role="batch"} : i32[3]
  %1 = input {name="table", role="parameter"} : f32[4,6]
  %2 = input {name="w", role="parameter"} : f32[8,6]
  %3 = gather %1, %0 : f32[3,6]
  %4 = dot %3, %2 {lhs_contract=[1], rhs_contract=[1]} : f32[3,8]
  %5 = softmax_cross_entropy %4, %0 : f32[3]
  %6 = scatter_add %0, %3 {rows=4} : f32[4,6]
  %7 = add %1, %6 : f32[4,6]
  return loss=%5, table=%7 -> %1
})";
  const PartitionOptions options{.mesh = Mesh::parse("model=2"),
                                 .inputs = {{"table", {{"model"}, {}}}, {"w", {{"model"}, {}}}}};
  const Partitioned made = expect_same_meaning(ir::parse(text), options);
  // The rows that were found, then the largest, the sum and the target's share of the classes.
  const std::vector<Communication> sent = communication(made.graph);
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].kind, shard::CollectiveKind::all_reduce);
  EXPECT_EQ(sent[0].count, 4);
  EXPECT_EQ(sent[0].bytes, 4.0 * (3 * 6 + 3 * 3));
}

/// A dimension of each input that the mesh axes divide, at random.
std::map<std::string, PartitionSpec> random_places(const ir::Graph& graph, const Mesh& mesh,
                                                   uint64_t seed) {
  std::map<std::string, PartitionSpec> places;
  uint64_t draw = 0;
  for (int32_t id : graph.inputs()) {
    const ir::Node& node = graph.node(id);
    PartitionSpec spec;
    for (const shard::MeshAxis& axis : mesh.axes()) {
      const int64_t rank = node.types[0].shape.rank();
      if (rank == 0) continue;
      const auto pick = static_cast<int64_t>(rng_bits({5, 6}, seed * 1000 + draw++) % (rank + 1));
      if (pick == rank) continue;
      if (node.types[0].shape[pick] / spec.pieces(pick, mesh) % axis.size == 0) {
        spec.cut(pick, axis.name);
      }
    }
    places[node.attrs.text(ir::Attr::name)] = spec;
  }
  return places;
}

TEST(Partition, KeepsTheMeaningOfRandomGraphsInRandomPlaces) {
  int64_t collectives = 0;
  for (uint64_t seed = 0; seed < 400; ++seed) {
    SCOPED_TRACE(seed);
    const ir::Graph graph = testing::random_graph(
        seed, {.steps = 20, .gradients = seed % 2 == 1, .training = seed % 3 == 0});
    const Mesh mesh =
        Mesh::parse(std::vector<const char*>{"a=2", "a=2,b=2", "a=3,b=2", "b=4"}.at(seed % 4));
    const PartitionOptions options{.mesh = mesh, .inputs = random_places(graph, mesh, seed)};
    const Partitioned made = expect_same_meaning(graph, options, seed);
    for (const Communication& c : communication(made.graph)) collectives += c.count;
    EXPECT_TRUE(ir::equal(made.graph, ir::parse(ir::print(made.graph))));
    if (HasFailure()) {
      ADD_FAILURE() << ir::print(made.graph);
      return;
    }
  }
  EXPECT_GT(collectives, 1000);
}

TEST(Partition, EveryOpOfAStepHasARow) {
  for (int i = 0; i < ir::kOpCount; ++i) {
    const auto op = static_cast<ir::Op>(i);
    const bool decomposed = has_trait(op, ir::kComposite) && op != ir::Op::attention;
    const bool later = op == ir::Op::fusion || op == ir::Op::matmul || has_trait(op, ir::kMesh);
    if (decomposed || later || op == ir::Op::input) continue;
    EXPECT_NO_THROW(part::partition_row(op)) << name(op);
  }
}

TEST(Partition, RefusesWhatCannotBe) {
  const ir::Graph graph = ir::parse(goldens()[1].before);
  const auto error = [&](const char* mesh, std::map<std::string, PartitionSpec> inputs) {
    const PartitionOptions options{.mesh = Mesh::parse(mesh), .inputs = std::move(inputs)};
    return error_of([&] { partition(graph, options); });
  };
  EXPECT_THAT(error("data=2", {{"ww", {}}}), HasSubstr("the graph g has no input ww; nearest: w"));
  EXPECT_THAT(error("data=2", {{"x", {{"dat"}, {}}}}), HasSubstr("no axis dat; nearest: data"));
  EXPECT_THAT(error("data=4", {{"w", {{"data"}, {}}}}),
              HasSubstr("axis data of 4 devices does not divide dimension 0 of [6,4]"));
  EXPECT_THAT(error("data=4", {{"w", {{"data"}, {}}}}), HasSubstr("input w f32[6,4]"));
  const ir::Graph fused = ir::parse(R"(graph g {
  %0 = input {name="x", role="batch"} : f32[2,4]
  %1 = matmul %0, %0 {lhs_contract=[1], rhs_contract=[1]} : f32[2,2]
  return y=%1
})");
  EXPECT_THAT(error_of([&] { partition(fused, {.mesh = Mesh::parse("a=2")}); }),
              HasSubstr("matmul cannot be cut over a mesh; partition a graph before fusion"));
}

}  // namespace
}  // namespace espalier::passes
