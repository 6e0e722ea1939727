// SPDX-License-Identifier: Apache-2.0
#include "espalier/nn/tree.h"

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
  static constexpr auto fields = nn::fields(&Block::norm, "norm", &Block::dense, "dense");
  Block() = default;
  explicit Block(int64_t width) : norm(width), dense(width, width) {}
};

struct Tree : Module<Tree> {
  Embedding embedding{5, 4, Init::normal(1.0)};
  std::vector<Block> layers{Block(4), Block(4)};
  std::optional<Linear> head;
  static constexpr auto fields =
      nn::fields(&Tree::embedding, "embedding", &Tree::layers, "layers", &Tree::head, "head");
};

/// A model whose encoder and decoder are one module.
struct Twins : Module<Twins> {
  Shared<Block> left{Block(4)};
  Shared<Block> right = left;
  static constexpr auto fields = nn::fields(&Twins::left, "left", &Twins::right, "right");
};

TEST(IterModule, ChildrenComeFirstAndTheRootLastOnRequest) {
  Tree tree;
  std::vector<std::string> paths;
  for (const ModuleEntry& e : iter_module(tree)) paths.push_back(e.path);
  EXPECT_THAT(paths, ElementsAre("embedding", "layers.0.norm", "layers.0.dense", "layers.0",
                                 "layers.1.norm", "layers.1.dense", "layers.1"));
  const auto with_root = iter_module(tree, Root::visit);
  EXPECT_EQ(with_root.size(), 8u);
  EXPECT_EQ(with_root.back().path, "");
  EXPECT_NE(with_root.back().module.as<Tree>(), nullptr);
  EXPECT_EQ(with_root[1].module.as<Linear>(), nullptr);
  EXPECT_EQ(with_root[2].module.as<Linear>()->weight.shape, (Shape{4, 4}));
}

TEST(IterModule, ASharedModuleComesOnceAtItsFirstPath) {
  Twins twins;
  std::vector<std::string> paths;
  for (const ModuleEntry& e : iter_module(twins)) paths.push_back(e.path);
  EXPECT_THAT(paths, ElementsAre("left.norm", "left.dense", "left"));
  EXPECT_THAT(param_paths(twins), ElementsAre("left.norm.weight", "left.norm.bias",
                                              "left.dense.weight", "left.dense.bias"));
  ir::Builder builder;
  bind(twins, builder);
  EXPECT_EQ(builder.graph().inputs().size(), 4u);
  EXPECT_EQ(twins.right->dense.weight.value().value(), twins.left->dense.weight.value().value());
}

TEST(Shared, ChangedTreesShareAmongThemselvesOnly) {
  const Twins before;
  const Twins after = map_leaves(before, [](std::string_view, Param p) {
    p.dtype = DType::bf16;
    return p;
  });
  EXPECT_EQ(before.left->dense.weight.dtype, DType::f32);
  EXPECT_EQ(after.right->dense.weight.dtype, DType::bf16);
  EXPECT_EQ(after.left.handle(), after.right.handle());
}

TEST(MapLeaves, GivesATiedLeafOnce) {
  Tree tree;
  tree.head = Linear(4, 5, {.bias = false});
  tree.head->weight.tied_to = "embedding.weight";
  int count = 0;
  const Tree mapped = map_leaves(tree, [&](std::string_view, Param p) {
    ++count;
    p.trainable = false;
    return p;
  });
  EXPECT_EQ(count, 9);
  EXPECT_FALSE(mapped.embedding.weight.trainable);
  EXPECT_TRUE(tree.embedding.weight.trainable);
}

TEST(Partition, SplitsTheLeavesAndCombineJoinsThem) {
  Tree tree;
  tree.head = Linear(4, 5, {.bias = false});
  tree.head->weight.tied_to = "embedding.weight";
  materialize(tree, 3);
  auto [norms, rest] = partition(tree, [](std::string_view path, const Param& p) {
    return p.shape.rank() == 1 && path.find("norm") != std::string_view::npos;
  });
  EXPECT_THAT(param_paths(norms), ElementsAre("layers.0.norm.weight", "layers.0.norm.bias",
                                              "layers.1.norm.weight", "layers.1.norm.bias"));
  EXPECT_EQ(param_paths(rest).size(), 5u);
  EXPECT_EQ(param_paths(rest, Tied::visit).size(), 6u);  // the tied path goes with its leaf
  EXPECT_FALSE(norms.embedding.weight.data.defined());
  EXPECT_EQ(param_count(norms) + param_count(rest), param_count(tree));
  for (const Tree& whole : {combine(norms, rest), combine(rest, norms)}) {
    EXPECT_EQ(param_paths(whole, Tied::visit), param_paths(tree, Tied::visit));
    for_each_param(whole, [&](std::string_view path, const Param& p) {
      EXPECT_EQ(p.data.data(), param_at(tree, path).data.data()) << path;
    });
  }
}

TEST(Combine, NamesWhereTreesDoNotFit) {
  Tree tree;
  const auto [norms, rest] =
      partition(tree, [](std::string_view path, const Param&) { return path.ends_with("bias"); });
  EXPECT_THAT(error_of([&] { combine(tree, rest); }),
              HasSubstr("[combine] the leaf embedding.weight is in both of the trees"));
  EXPECT_THAT(error_of([&] { combine(norms, norms); }),
              HasSubstr("the leaf embedding.weight is in none of the trees"));
  Tree longer = rest;
  longer.layers.emplace_back(4);
  EXPECT_THAT(error_of([&] { combine(norms, longer); }),
              HasSubstr("the trees differ in structure: nothing faces layers.2.norm.weight"));
  EXPECT_THAT(error_of([&] { combine(longer, norms); }),
              HasSubstr("layers.2.norm.weight faces nothing"));
}

TEST(TreeAt, ReplacesModulesAndLeavesInOneWalk) {
  const Tree tree;
  std::vector<Replacement> all;
  all.emplace_back("layers.1.dense", Linear(7, 8));
  all.emplace_back("layers.0.norm.bias", Param(Shape{9}));
  all.emplace_back("embedding", Embedding(2, 3, Init::zeros()));
  const Tree after = tree_at(tree, std::move(all));
  EXPECT_EQ(after.layers[1].dense.weight.shape, (Shape{8, 7}));
  EXPECT_EQ(after.layers[0].norm.bias.shape, (Shape{9}));
  EXPECT_EQ(after.embedding.weight.shape, (Shape{2, 3}));
  EXPECT_EQ(tree.embedding.weight.shape, (Shape{5, 4}));
  EXPECT_EQ(after.layers[0].dense.weight.shape, (Shape{4, 4}));
}

TEST(TreeAt, TheOuterReplacementComesFirst) {
  std::vector<Replacement> all;
  all.emplace_back("layers.1.dense.weight", Param(Shape{1, 1}));
  all.emplace_back("layers.1", Block(16));
  const Tree after = tree_at(Tree(), std::move(all));
  EXPECT_EQ(after.layers[1].norm.weight.shape, (Shape{16}));
  EXPECT_EQ(after.layers[1].dense.weight.shape, (Shape{1, 1}));
}

TEST(TreeAt, FillsOptionalFieldsAndReachesSharedModules) {
  EXPECT_EQ(tree_at(Tree(), "head", Linear(4, 3)).head->weight.shape, (Shape{3, 4}));
  const Twins twins = tree_at(Twins(), "left.dense", Linear(2, 2));
  EXPECT_EQ(twins.right->dense.weight.shape, (Shape{2, 2}));
}

TEST(TreeAt, WrongPathsAndTypesAreNamed) {
  const Tree tree;
  EXPECT_THAT(error_of([&] { tree_at(tree, "layers.1.dens", Linear(4, 4)); }),
              HasSubstr("[tree_at] there is nothing at layers.1.dens; nearest: layers.1.dense"));
  for (const std::string path :
       {"layers.2", "layers.01", "layers.x", "layer", "", "head.weight", "embedding.weight.data"}) {
    EXPECT_THAT(error_of([&] { tree_at(tree, path, Block(4)); }),
                HasSubstr("there is nothing at " + path))
        << path;
  }
  EXPECT_THAT(error_of([&] { tree_at(tree, "layers.1.dense", LayerNorm(4)); }),
              HasSubstr("layers.1.dense is a Linear, its replacement a LayerNorm"));
  EXPECT_THAT(error_of([&] { tree_at(tree, "head", LayerNorm(4)); }),
              HasSubstr("head is a Linear, its replacement a LayerNorm"));
  EXPECT_THAT(error_of([&] { tree_at(tree, "layers", Block(4)); }),
              HasSubstr("layers is a list; replace its items"));
  std::vector<Replacement> twice;
  twice.emplace_back("embedding.weight", Param(Shape{1, 1}));
  twice.emplace_back("embedding.weight", Param(Shape{1, 1}));
  EXPECT_THAT(error_of([&] { tree_at(tree, twice); }), HasSubstr("embedding.weight comes twice"));
}

TEST(TreeAt, EveryPathOfATreeIsFound) {
  // Long lists, where "10" comes before "2", and names that begin alike.
  Tree tree;
  tree.layers.assign(23, Block(4));
  std::vector<Replacement> all;
  for (const ModuleEntry& entry : iter_module(tree)) {
    if (entry.path.find("dense") == std::string::npos) continue;
    all.emplace_back(entry.path, Linear(6, static_cast<int64_t>(all.size()) + 1));
  }
  std::reverse(all.begin(), all.end());
  const Tree after = tree_at(tree, std::move(all));
  for (size_t i = 0; i < after.layers.size(); ++i) {
    EXPECT_EQ(after.layers[i].dense.weight.shape, (Shape{static_cast<int64_t>(i) + 1, 6}));
  }
}

}  // namespace
}  // namespace espalier::nn
