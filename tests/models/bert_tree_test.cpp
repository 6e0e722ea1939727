// SPDX-License-Identifier: Apache-2.0
// The module tree of BERT: paths, shapes, configurations, and the plans that have names.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "espalier/io/safetensors.h"
#include "espalier/models/bert.h"
#include "espalier/nn/shard_plan.h"
#include "tests/support/errors.h"

namespace espalier::models {
namespace {

using nn::apply_plans;
using nn::plans_of;
using shard::Mesh;
using shard::preset;
using test::error_of;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

BertConfig sized(int64_t layers, int64_t hidden, int64_t heads, int64_t ffn) {
  BertConfig c;
  c.num_hidden_layers = layers;
  c.hidden_size = hidden;
  c.num_attention_heads = heads;
  c.intermediate_size = ffn;
  return c;
}
BertConfig hundred_layers() { return sized(100, 5120, 40, 20480); }

TEST(BertTree, BaseHasTheArraysAndParametersOfHuggingFace) {
  const BertForMaskedLm model{BertConfig()};
  const std::vector<std::string> paths = nn::param_paths(model);
  EXPECT_EQ(paths.size(), 202u);
  EXPECT_EQ(nn::param_count(model), 109'514'298);
  EXPECT_EQ(nn::param_paths(model, nn::Tied::visit).size(), 204u);
  EXPECT_EQ(paths.front(), "bert.embeddings.word_embeddings.weight");
  EXPECT_THAT(paths, testing::Contains("bert.encoder.layer.0.attention.self.query.weight"));
  EXPECT_THAT(paths, testing::Contains("bert.encoder.layer.11.attention.output.LayerNorm.bias"));
  EXPECT_THAT(paths, testing::Contains("cls.predictions.transform.dense.weight"));
  EXPECT_EQ(nn::param_at(model, "cls.predictions.decoder.weight").tied_to, paths.front());
  EXPECT_EQ(nn::param_at(model, "bert.encoder.layer.3.intermediate.dense.weight").shape,
            (Shape{3072, 768}));
}

TEST(BertTree, AnAbstractTreeOfAnySizeOwnsNoBytes) {
  const BertForMaskedLm model(hundred_layers());
  EXPECT_EQ(nn::param_paths(model).size(), 1610u);
  EXPECT_EQ(nn::param_count(model), 31'649'110'842);
  EXPECT_EQ(nn::param_count(model.bert), 31'622'850'560);  // "31.62B" leaves out the head
  nn::for_each_param(model, [](std::string_view path, const nn::Param& p) {
    EXPECT_FALSE(p.data.defined()) << path;
  });
}

TEST(BertTree, LeavesAre10And16ALayer) {
  for (const auto& [layers, hidden, heads, leaves] :
       {std::tuple{2, 256, 4, 42}, {4, 512, 8, 74}, {8, 768, 12, 138}}) {
    EXPECT_EQ(nn::param_paths(BertForMaskedLm(sized(layers, hidden, heads, 4 * hidden))).size(),
              static_cast<size_t>(leaves));
  }
}

TEST(BertPlans, FourLayersHave24HitsAndPattern6IsShadowed) {
  const auto [model, report] =
      apply_plans(BertForMaskedLm(sized(4, 768, 12, 3072)), Mesh::parse("data=1,model=2"),
                  plans_of(preset("bert-tp")));
  EXPECT_EQ(report.hit_count(), 24);
  std::vector<int64_t> hits;
  for (const nn::RuleReport& rule : report.rules) hits.push_back(rule.hits);
  EXPECT_THAT(hits, ElementsAre(4, 8, 4, 4, 4, 0));
  EXPECT_THAT(report.shadowed(), ElementsAre(5));
  EXPECT_EQ(report.rules[5].matches, 4);
  EXPECT_EQ(report.rules[5].shadowed_by, 1);
  const auto spec = [&model = model](std::string_view path) {
    return nn::param_at(model, path).placement.spec.str(nn::param_at(model, path).shape.rank());
  };
  EXPECT_EQ(spec("bert.encoder.layer.3.attention.output.dense.weight"), "(-,model)");
  EXPECT_EQ(spec("bert.encoder.layer.3.attention.output.dense.bias"), "-");
  EXPECT_EQ(spec("bert.encoder.layer.3.attention.self.key.weight"), "(model,-)");
  EXPECT_EQ(spec("bert.encoder.layer.3.intermediate.dense.bias"), "(model)");
  EXPECT_EQ(spec("bert.embeddings.word_embeddings.weight"), "-");
}

TEST(BertPlans, AHundredLayersHave600Hits) {
  const Mesh mesh = Mesh::parse("data=8,model=8");
  const auto placed =
      apply_plans(BertForMaskedLm(hundred_layers()), mesh, plans_of(preset("bert-tp+fsdp")));
  int64_t tensor_parallel = 0, local = 0;
  for (const nn::RuleReport& rule : placed.report.rules) {
    if (rule.plan == 0) tensor_parallel += rule.hits;
  }
  EXPECT_EQ(tensor_parallel, 600);
  for (const nn::ParamPlacement& p : explain(placed.model, placed.report, mesh)) {
    local += p.local_shape.numel();
  }
  // All but the little that is smaller than min_size is cut into 64, or 8 outside of the encoder.
  EXPECT_LT(local, int64_t{31'620'000'000} / 64 * 11 / 10);
  EXPECT_THAT(
      placed.report.notes,
      ElementsAre("cls.predictions.bias [30522] stays whole: axis data of 8 devices divides "
                  "none of its dimensions"));
}

TEST(BertPlans, HeadsThatAnAxisDoesNotDivideAreAnError) {
  EXPECT_THAT(error_of([] {
                apply_plans(BertForMaskedLm(sized(4, 768, 12, 3072)), Mesh::parse("data=1,model=5"),
                            plans_of(preset("bert-tp")));
              }),
              HasSubstr("axis model of 5 devices does not divide dimension 0 of [768,768], of size "
                        "768 (at bert.encoder.layer.0.attention.self.query, rule"));
}

TEST(BertConfigFile, ReadsItsOwnTextAndDefaults) {
  const BertConfig c = parse_bert_config(bert_config_json(hundred_layers()), "config.json");
  EXPECT_EQ(c.num_hidden_layers, 100);
  EXPECT_EQ(c.intermediate_size, 20480);
  EXPECT_EQ(c.layer_norm_eps, 1e-12);
  EXPECT_EQ(parse_bert_config("{}", "x").hidden_size, 768);
  EXPECT_EQ(parse_bert_config(R"({"hidden_act": "gelu_new"})", "x").hidden_act,
            BertActivation::gelu_tanh);
}

TEST(BertConfigFile, UnsupportedOptionsAreAllNamed) {
  EXPECT_THAT(error_of([] {
                parse_bert_config(R"({"position_embedding_type": "relative_key",
                                      "is_decoder": true, "hidden_act": "silu"})",
                                  "config.json");
              }),
              AllOf(HasSubstr("[bert] config.json asks for what this model lacks: "
                              "position_embedding_type = \"relative_key\" (only \"absolute\" is "
                              "supported)"),
                    HasSubstr("is_decoder = true"), HasSubstr("hidden_act = \"silu\"")));
  EXPECT_THAT(error_of([] { parse_bert_config(R"({"model_type": "roberta"})", "c"); }),
              HasSubstr("model_type = \"roberta\" (only \"bert\" is supported)"));
}

TEST(BertConfigFile, WrongValuesAreNamed) {
  EXPECT_THAT(error_of([] { parse_bert_config("{", "c.json"); }), HasSubstr("c.json is not JSON"));
  EXPECT_THAT(error_of([] { parse_bert_config("[]", "c.json"); }),
              HasSubstr("c.json is not a JSON object"));
  EXPECT_THAT(error_of([] { parse_bert_config(R"({"hidden_size": -3})", "c.json"); }),
              HasSubstr("hidden_size = -3 is no size between 1 and"));
  EXPECT_THAT(error_of([] { parse_bert_config(R"({"hidden_dropout_prob": "0"})", "c.json"); }),
              HasSubstr("hidden_dropout_prob = \"0\" is no number in [0, 1)"));
  EXPECT_THAT(error_of([] { parse_bert_config(R"({"num_attention_heads": 7})", "c.json"); }),
              HasSubstr("num_attention_heads = 7 does not divide hidden_size = 768 in c.json"));
  EXPECT_THAT(error_of([] { BertForMaskedLm model(sized(0, 768, 12, 3072)); }),
              HasSubstr("num_hidden_layers = 0 must be positive"));
}

TEST(BertTree, MatchesACheckpointOfTransformers) {
  const std::filesystem::path models =
      std::filesystem::path(ESPALIER_SOURCE_DIR) / "../shared/data/models";
  if (!std::filesystem::exists(models / "tiny_bert.safetensors")) GTEST_SKIP() << "no " << models;
  const BertForMaskedLm model(read_bert_config(models / "tiny_bert_config.json"));
  const auto file = io::SafetensorsFile::open(models / "tiny_bert.safetensors");
  // The file holds the encoder alone, whose paths begin below `bert`.
  nn::for_each_param(model.bert, [&](std::string_view path, const nn::Param& p) {
    ASSERT_TRUE(file.contains(path)) << path;
    EXPECT_EQ(file.at(path).shape, p.shape) << path;
  });
}

}  // namespace
}  // namespace espalier::models
