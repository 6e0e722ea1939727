// SPDX-License-Identifier: Apache-2.0
// Collectives by hand on small meshes, random numbers of pieces, and what is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "espalier/interp/mesh.h"
#include "espalier/ir/builder.h"
#include "tests/support/compare.h"
#include "tests/support/errors.h"

namespace espalier::interp {
namespace {

using shard::Mesh;
using shard::PartitionSpec;
using test::error_of;
using ::testing::HasSubstr;
using Elements = std::vector<double>;

struct Case {
  ir::Op op;
  std::string mesh;
  std::string input;  // its type, or nothing
  std::string attrs;
  std::string result;             // type
  std::vector<Elements> in, out;  // of each rank
};

const std::vector<Case>& cases() {
  using ir::Op;
  static const std::vector<Case> all{
      {Op::axis_index,
       "a=2,b=2",
       "",
       "{mesh_axes=\"b\", devices=2}",
       "i32[]",
       {{}, {}, {}, {}},
       {{0}, {1}, {0}, {1}}},
      {Op::axis_index,
       "a=2,b=2",
       "",
       "{mesh_axes=\"b,a\", devices=4}",
       "i32[]",
       {{}, {}, {}, {}},
       {{0}, {2}, {1}, {3}}},
      {Op::shard_slice,
       "a=2",
       "f32[2,2]",
       "{mesh_axes=\"a\", devices=2, axis=1}",
       "f32[2,1]",
       {{1, 2, 3, 4}, {1, 2, 3, 4}},
       {{1, 3}, {2, 4}}},
      {Op::all_reduce,
       "a=2,b=2",
       "f32[1]",
       "{mesh_axes=\"a\", devices=2}",
       "f32[1]",
       {{1}, {2}, {10}, {20}},
       {{11}, {22}, {11}, {22}}},
      {Op::all_reduce,
       "a=2,b=2",
       "i32[1]",
       "{mesh_axes=\"a,b\", devices=4, reduction=\"max\"}",
       "i32[1]",
       {{1}, {7}, {-2}, {3}},
       {{7}, {7}, {7}, {7}}},
      {Op::all_gather,
       "a=2",
       "f32[2,1]",
       "{mesh_axes=\"a\", devices=2, axis=1}",
       "f32[2,2]",
       {{1, 3}, {2, 4}},
       {{1, 2, 3, 4}, {1, 2, 3, 4}}},
      {Op::all_gather,
       "a=2,b=2",
       "f32[1]",
       "{mesh_axes=\"b,a\", devices=4, axis=0}",
       "f32[4]",
       {{1}, {3}, {2}, {4}},
       {{1, 2, 3, 4}, {1, 2, 3, 4}, {1, 2, 3, 4}, {1, 2, 3, 4}}},
      {Op::reduce_scatter,
       "a=2",
       "f32[2]",
       "{mesh_axes=\"a\", devices=2, axis=0}",
       "f32[1]",
       {{1, 2}, {10, 20}},
       {{11}, {22}}},
  };
  return all;
}

ir::Graph graph_of(const Case& c) {
  std::string text = "graph one {\n";
  if (!c.input.empty()) text += "  %0 = input {name=\"x\", role=\"batch\"} : " + c.input + "\n";
  text += fmt::format("  %1 = {} {} {} : {}\n  return y=%1\n}}", name(c.op),
                      c.input.empty() ? "" : "%0", c.attrs, c.result);
  return ir::parse(text);
}

OnMesh inputs_of(const ir::Graph& graph, const std::vector<Elements>& of_ranks) {
  OnMesh inputs;
  for (const Elements& data : of_ranks) {
    inputs.emplace_back();
    for (int32_t id : graph.inputs()) inputs.back().push_back({graph.node(id).types[0], data});
  }
  return inputs;
}

TEST(OnMesh, CollectivesByHand) {
  std::set<ir::Op> seen;
  for (const Case& c : cases()) {
    SCOPED_TRACE(fmt::format("{} {} on {}", name(c.op), c.attrs, c.mesh));
    const ir::Graph graph = graph_of(c);
    EXPECT_TRUE(ir::equal(graph, ir::parse(ir::print(graph))));
    const OnMesh got = evaluate_on_mesh(graph, Mesh::parse(c.mesh), inputs_of(graph, c.in));
    ASSERT_EQ(got.size(), c.out.size());
    for (size_t r = 0; r < got.size(); ++r) {
      EXPECT_TRUE(testing::same(got[r][0].data, c.out[r])) << "rank " << r;
    }
    seen.insert(c.op);
  }
  for (int i = 0; i < ir::kOpCount; ++i) {
    const auto op = static_cast<ir::Op>(i);
    EXPECT_EQ(has_trait(op, ir::kMesh), seen.count(op) == 1) << name(op);
  }
}

TEST(OnMesh, RandomNumbersOfAPieceAreThoseOfTheWhole) {
  const std::string head = R"(graph g {
    %0 = input {name="seed", role="scalar"} : i64[]
    %1 = input {name="step", role="scalar"} : i64[]
    %2 = random_uniform %0, %1 )";
  const ir::Graph whole = ir::parse(head + "{shape=[4,6], id=7} : f32[4,6]\n return u=%2 }");
  const ir::Graph piece = ir::parse(
      head + "{shape=[2,3], id=7, whole=[4,6], cut=\"(a,b)\"} : f32[2,3]\n return u=%2 }");
  const std::vector<DoubleTensor> inputs{{{DType::i64, {}}, {5}}, {{DType::i64, {}}, {3}}};
  const DoubleTensor want = evaluate(whole, inputs)[0];
  const Mesh mesh = Mesh::parse("a=2,b=2");
  const OnMesh got = evaluate_on_mesh(piece, mesh, OnMesh(4, inputs));
  for (int64_t rank = 0; rank < 4; ++rank) {
    const DoubleTensor part = take_piece(want, PartitionSpec{{"a"}, {"b"}}, mesh, rank);
    EXPECT_EQ(got[static_cast<size_t>(rank)][0].data, part.data) << "rank " << rank;
  }
  EXPECT_THAT(error_of([&] { evaluate(piece, inputs); }),
              HasSubstr("random_uniform of a piece cut (a,b) needs a mesh of devices"));
}

TEST(OnMesh, PiecesGoBackToTheirPlaces) {
  const Mesh mesh = Mesh::parse("a=2,b=3");
  const PartitionSpec spec{{"b", "a"}, {}};
  DoubleTensor whole{{DType::f32, {6, 2}}, {}};
  for (int i = 0; i < 12; ++i) whole.data.push_back(i);
  DoubleTensor joined{whole.type, Elements(12, -1.0)};
  for (int64_t rank = 0; rank < 6; ++rank) {
    put_piece(take_piece(whole, spec, mesh, rank), spec, mesh, rank, joined);
  }
  EXPECT_EQ(joined.data, whole.data);
}

TEST(OnMesh, RefusesWhatDoesNotFit) {
  const Case& reduce = cases()[3];
  const ir::Graph graph = graph_of(reduce);
  const OnMesh inputs = inputs_of(graph, reduce.in);
  EXPECT_THAT(error_of([&] { evaluate(graph, inputs[0]); }),
              HasSubstr("all_reduce along a needs a mesh of devices"));
  EXPECT_THAT(error_of([&] { evaluate_on_mesh(graph, Mesh::parse("a=4"), inputs); }),
              HasSubstr("all_reduce is over 2 devices along a; the mesh a=4 has 4"));
  EXPECT_THAT(error_of([&] { evaluate_on_mesh(graph, Mesh::parse("c=4"), inputs); }),
              HasSubstr("the mesh c=4 has no axis a"));
  EXPECT_THAT(error_of([&] { evaluate_on_mesh(graph, Mesh::parse("a=2"), inputs); }),
              HasSubstr("there are inputs for 4 devices, the mesh a=2 has 2"));
}

}  // namespace
}  // namespace espalier::interp
