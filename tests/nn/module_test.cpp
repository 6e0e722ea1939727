// SPDX-License-Identifier: Apache-2.0
#include "espalier/nn/module.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "espalier/nn/embedding.h"
#include "espalier/nn/layer_norm.h"
#include "espalier/nn/linear.h"
#include "tests/support/errors.h"

namespace espalier::nn {
namespace {

using test::error_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Block : Module<Block> {
  LayerNorm norm;
  Linear dense;
  int64_t width = 0;
  static constexpr auto fields = nn::fields(&Block::norm, "norm", &Block::dense, "dense");
  Block() = default;
  explicit Block(int64_t width) : norm(width), dense(width, width), width(width) {}
};

struct Tree : Module<Tree> {
  Embedding embedding{5, 4, Init::normal(1.0)};
  std::vector<Block> layers{Block(4), Block(4)};
  std::optional<Linear> head;
  static constexpr auto fields =
      nn::fields(&Tree::embedding, "embedding", &Tree::layers, "layers", &Tree::head, "head");
};

TEST(Module, PathsJoinFieldNamesAndListIndices) {
  EXPECT_THAT(param_paths(Tree()),
              ElementsAre("embedding.weight", "layers.0.norm.weight", "layers.0.norm.bias",
                          "layers.0.dense.weight", "layers.0.dense.bias", "layers.1.norm.weight",
                          "layers.1.norm.bias", "layers.1.dense.weight", "layers.1.dense.bias"));
}

TEST(Module, AbsentOptionalFieldsHaveNoPath) {
  Tree tree;
  EXPECT_EQ(param_paths(tree).size(), 9u);
  tree.head = Linear(4, 5, {.bias = false});
  const std::vector<std::string> paths = param_paths(tree);
  EXPECT_EQ(paths.size(), 10u);
  EXPECT_EQ(paths.back(), "head.weight");
}

TEST(Module, ModulesComeChildrenFirstAndWithoutTheRoot) {
  std::vector<std::string> paths;
  Tree tree;
  for_each_module(tree, [&](std::string_view path, ModuleRef) { paths.emplace_back(path); });
  EXPECT_THAT(paths, ElementsAre("embedding", "layers.0.norm", "layers.0.dense", "layers.0",
                                 "layers.1.norm", "layers.1.dense", "layers.1"));
}

TEST(Module, AbstractTreesOwnNoBytesUntilMaterialized) {
  Tree tree;
  for_each_param(
      tree, [](std::string_view path, const Param& p) { EXPECT_FALSE(p.data.defined()) << path; });
  EXPECT_EQ(param_count(tree), 5 * 4 + 2 * (4 + 4 + 16 + 4));
  materialize(tree, 1);
  for_each_param(tree, [](std::string_view path, const Param& p) {
    EXPECT_EQ(p.data.shape(), p.shape) << path;
  });
  EXPECT_EQ(tree.layers[0].norm.weight.data.get(3), 1.0);
}

TEST(Module, BindMakesOneParameterInputEach) {
  Tree tree;
  ir::Builder builder;
  bind(tree, builder);
  const ir::Graph& graph = builder.graph();
  ASSERT_EQ(graph.inputs().size(), 9u);
  const ir::Node& input = graph.node(graph.inputs()[3]);
  EXPECT_EQ(input.attrs.text(ir::Attr::name), "param.layers.0.dense.weight");
  EXPECT_EQ(input.attrs.text(ir::Attr::role), "parameter");
  EXPECT_EQ(input.types[0].str(), "f32[4,4]");
  EXPECT_EQ(tree.layers[1].dense.bias->value().shape(), Shape{4});
}

TEST(Module, TiedLeavesAreOneInputAndCountOnce) {
  Tree tree;
  tree.head = Linear(4, 5, {.bias = false});
  tree.head->weight.tied_to = "embedding.weight";
  EXPECT_EQ(param_paths(tree).size(), 9u);
  EXPECT_EQ(param_paths(tree, Tied::visit).size(), 10u);
  ir::Builder builder;
  bind(tree, builder);
  EXPECT_EQ(builder.graph().inputs().size(), 9u);
  EXPECT_EQ(tree.head->weight.value().value(), tree.embedding.weight.value().value());
}

TEST(Module, TiesToWrongPlacesAreErrors) {
  Tree tree;
  tree.head = Linear(4, 6, {.bias = false});
  ir::Builder builder;
  tree.head->weight.tied_to = "embeding.weight";
  EXPECT_THAT(error_of([&] { bind(tree, builder); }),
              HasSubstr("head.weight is tied to embeding.weight, where no parameter is; nearest: "
                        "embedding.weight"));
  ir::Builder second;
  tree.head->weight.tied_to = "embedding.weight";
  EXPECT_THAT(error_of([&] { bind(tree, second); }),
              HasSubstr("head.weight f32[6,4] is tied to embedding.weight f32[5,4]"));
}

TEST(Module, UnboundParametersCannotBeUsed) {
  const Linear linear(2, 3);
  EXPECT_THAT(error_of([&] { linear.weight.value(); }),
              HasSubstr("[nn] a parameter f32[3,2] is used outside of tracing"));
}

TEST(Module, MissingPathsNameTheNearest) {
  Tree tree;
  EXPECT_EQ(param_at(tree, "layers.1.dense.bias").shape, Shape{4});
  EXPECT_THAT(error_of([&] { param_at(tree, "layers.1.dense.bios"); }),
              HasSubstr("no parameter at layers.1.dense.bios; nearest: layers.1.dense.bias"));
}

}  // namespace
}  // namespace espalier::nn
