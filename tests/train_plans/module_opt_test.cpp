// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/module_opt.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>

#include "espalier/io/safetensors.h"
#include "espalier/models/bert.h"
#include "espalier/train/step.h"
#include "tests/support/errors.h"

namespace espalier::train {
namespace {

using models::BertConfig;
using models::BertForMaskedLm;
using shard::Mesh;
using test::error_of;
using ::testing::HasSubstr;

BertConfig tiny() {
  BertConfig c;
  c.vocab_size = 64;
  c.hidden_size = 32;
  c.num_hidden_layers = 2;
  c.num_attention_heads = 8;
  c.intermediate_size = 64;
  c.max_position_embeddings = 16;
  return c;
}

std::vector<nn::Plan> plans() {
  std::vector<shard::PlanText> texts = shard::preset("bert-tp+fsdp");
  texts[1].rules[0].transform.min_size = 16;
  return nn::plans_of(texts);
}

/// Puts the shards of all ranks together, checking that copies agree.
void expect_pieces_of(const BertForMaskedLm& whole, const Mesh& mesh) {
  std::map<std::string, std::vector<bool>> seen;
  for (int64_t rank = 0; rank < mesh.devices(); ++rank) {
    const auto made =
        make_module_opt(BertForMaskedLm(tiny()), adamw(), mesh, plans(), 7, {.rank = rank});
    nn::for_each_param(made.model, [&](std::string_view path, const nn::Param& p) {
      const HostTensor& all = nn::param_at(whole, path).data;
      const shard::Region region = shard::region_of(p.shape, p.placement.spec, mesh, rank);
      ASSERT_EQ(p.data.shape(), p.placement.spec.local_shape(p.shape, mesh)) << path;
      std::vector<bool>& found =
          seen.try_emplace(std::string(path), static_cast<size_t>(all.numel())).first->second;
      const std::vector<int64_t> strides = region.view.strides();
      for (int64_t i = 0; i < p.data.numel(); ++i) {
        int64_t index = 0, rest = i;
        for (int64_t d = region.view.rank() - 1; d >= 0; --d) {
          const auto at = static_cast<size_t>(d);
          index += (region.first[at] + rest % region.size[d]) * strides[at];
          rest /= region.size[d];
        }
        found[static_cast<size_t>(index)] = true;
        const float piece = p.data.as<float>()[static_cast<size_t>(i)];
        const float expected = all.as<float>()[static_cast<size_t>(index)];
        ASSERT_EQ(std::memcmp(&piece, &expected, sizeof(float)), 0)
            << path << " element " << index << " rank " << rank << " of " << mesh.str();
      }
    });
    for (const MomentShard& m : made.moments) {
      const nn::Param& p = nn::param_at(made.model, m.path);
      EXPECT_EQ(m.data.shape(), p.data.shape()) << m.name;
      EXPECT_EQ(m.data.get(0), 0.0);
    }
  }
  for (const auto& [path, found] : seen) {
    EXPECT_TRUE(std::all_of(found.begin(), found.end(), [](bool f) { return f; })) << path;
  }
}

TEST(ModuleOpt, TheSameBitsOnOneTwoFourAndEightDevices) {
  BertForMaskedLm whole{tiny()};
  nn::materialize(whole, 7);
  for (const std::string mesh : {"data=1,model=1", "data=2,model=1", "data=1,model=2",
                                 "data=2,model=2", "data=2,model=4", "data=8,model=1"}) {
    expect_pieces_of(whole, Mesh::parse(mesh));
  }
}

struct Line : nn::Module<Line> {
  nn::Linear dense{4, 3};
  static constexpr auto fields = nn::fields(&Line::dense, "dense");
};

TEST(ModuleOpt, OnOneDeviceItIsTheStateOfAStep) {
  const auto loss = [](const Line& model, const Trace& trace) -> Loss {
    const Tensor y = model.dense(trace.batch("x", DType::f32, {2, 4}));
    return mean(y * y, {0, 1});
  };
  Step step = make_train_step(Line(), loss, adamw());
  step.initialize(11);
  const auto made = make_module_opt(Line(), adamw(), Mesh(), {}, 11);
  nn::for_each_param(made.model, [&](std::string_view path, const nn::Param& p) {
    EXPECT_EQ(p.data.to_doubles(), step.parameter(path).to_doubles()) << path;
  });
  EXPECT_EQ(made.moments.size(), 4u);
  for (const MomentShard& m : made.moments) {
    EXPECT_EQ(m.data.to_doubles(), step.state(m.name).to_doubles()) << m.name;
  }
}

TEST(ModuleOpt, FrozenParametersHaveNoMoments) {
  const auto made =
      make_module_opt(Line(), adamw(), Mesh(), {nn::Plan().add("dense.bias", nn::freeze())}, 1);
  ASSERT_EQ(made.moments.size(), 2u);
  EXPECT_EQ(made.moments[0].name, "adam.m.dense.weight");
  EXPECT_EQ(make_module_opt(Line(), sgd(), Mesh(), {}, 1).moments.size(), 0u);
  EXPECT_EQ(make_module_opt(Line(), sgd({.momentum = 0.9}), Mesh(), {}, 1).moments.at(0).name,
            "sgd.trace.dense.weight");
}

TEST(ModuleOpt, ShardsAreSavedWithTheirPlaces) {
  const Mesh mesh = Mesh::parse("data=2,model=2");
  const auto made =
      make_module_opt(BertForMaskedLm(tiny()), adamw(), mesh, plans(), 7, {.rank = 3});
  const auto path = std::filesystem::temp_directory_path() /
                    ("espalier-shards-" + std::to_string(getpid()) + ".safetensors");
  save_shards(path, made, adamw());
  {
    const auto file = io::SafetensorsFile::open(path);
    EXPECT_EQ(file.metadata().at("mesh"), "data=2,model=2");
    EXPECT_EQ(file.metadata().at("rank"), "3");
    EXPECT_EQ(file.metadata().at("shard.param.bert.encoder.layer.1.output.dense.weight"),
              R"json({"shape":[32,64],"view":[32,64],"first":[16,32],"spec":"(data,model)"})json");
    int64_t count = 0;
    nn::for_each_param(made.model, [&](std::string_view p, const nn::Param& leaf) {
      EXPECT_EQ(file.tensor(nn::input_name(p)).to_doubles(), leaf.data.to_doubles()) << p;
      ++count;
    });
    EXPECT_EQ(file.entries().size(), static_cast<size_t>(3 * count));
  }
  std::filesystem::remove(path);
}

TEST(ModuleOpt, RanksOutsideTheMeshAreErrors) {
  EXPECT_THAT(
      error_of([] { make_module_opt(Line(), adamw(), Mesh::parse("data=2"), {}, 1, {.rank = 2}); }),
      HasSubstr("[mesh] rank 2 is outside the mesh data=2 of 2 devices, ranks 0 to 1"));
}

}  // namespace
}  // namespace espalier::train
