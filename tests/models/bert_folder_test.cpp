// SPDX-License-Identifier: Apache-2.0
// BERT through folders of Hugging Face.
#include "espalier/models/bert_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "espalier/models/bert_forward.h"
#include "espalier/nn/weights.h"
#include "espalier/train/step.h"
#include "tests/io/folder.h"
#include "tests/support/errors.h"

namespace espalier::models {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using ::testing::HasSubstr;

const fs::path kGolden = fs::path(ESPALIER_SOURCE_DIR) / "tests/goldens/bert_tanh";
const fs::path kShared = fs::path(ESPALIER_SOURCE_DIR) / "../shared/data/models";

TEST(BertFolder, ReadsTheFixtureAndWritesItAgain) {
  const BertFolder golden = load_bert(kGolden);
  EXPECT_EQ(golden.weights.tensors.size(), 42u);
  for (const int64_t limit : {int64_t{1} << 30, int64_t{4096}}) {
    const TestFolder folder;
    save_bert(folder / "m", golden.config, golden.weights.tensors, {.max_shard_bytes = limit});
    const BertFolder again = load_bert(folder / "m");
    EXPECT_EQ(bert_config_json(again.config), bert_config_json(golden.config));
    for (const auto& [path, values] : golden.weights.tensors) {
      EXPECT_EQ(again.weights.tensors.at(path).to_doubles(), values.to_doubles()) << path;
    }
  }
}

TEST(BertFolder, TheConfigNamesTheDtype) {
  const BertFolder golden = load_bert(kGolden);
  const TestFolder folder;
  save_bert(folder / "m", golden.config, golden.weights.tensors, {.dtype = DType::bf16});
  std::ifstream file(folder / "m/config.json");
  EXPECT_EQ(nlohmann::json::parse(file).at("dtype"), "bfloat16");
  const HostTensor& bias = load_bert(folder / "m").weights.tensors.at("cls.predictions.bias");
  EXPECT_EQ(bias.dtype(), DType::bf16);
}

TEST(BertFolder, TiedDecoderOldNormsAndWhatIsLeftOut) {
  const BertFolder golden = load_bert(kGolden);
  std::map<std::string, HostTensor> old;
  for (const auto& [path, values] : golden.weights.tensors) {
    std::string name = path;
    if (name.ends_with("LayerNorm.weight")) name.replace(name.size() - 6, 6, "gamma");
    if (name.ends_with("LayerNorm.bias")) name.replace(name.size() - 4, 4, "beta");
    old.emplace(name, values);
  }
  old.emplace("cls.predictions.decoder.weight", old.at("bert.embeddings.word_embeddings.weight"));
  old.emplace("cls.predictions.decoder.bias", old.at("cls.predictions.bias"));
  old.emplace("bert.embeddings.position_ids", HostTensor(DType::i64, {1, 21}));
  old.emplace("bert.pooler.dense.bias", HostTensor(DType::f32, {18}));
  old.emplace("cls.seq_relationship.bias", HostTensor(DType::f32, {2}));
  const TestFolder folder;
  io::save_safetensors(folder / "model.safetensors", old);
  fs::copy_file(kGolden / "config.json", folder / "config.json");
  const BertFolder loaded = load_bert(folder.path());
  EXPECT_EQ(loaded.weights.ignored.size(), 3u);
  for (const auto& [path, values] : golden.weights.tensors) {
    EXPECT_EQ(loaded.weights.tensors.at(path).to_doubles(), values.to_doubles()) << path;
  }
}

TEST(BertFolder, AConfigOfAnotherModelIsRefusedWithAllTensors) {
  const TestFolder folder;
  BertFolder golden = load_bert(kGolden);
  save_bert(folder / "m", golden.config, golden.weights.tensors);
  golden.config.num_hidden_layers = 3;
  golden.config.vocab_size = 54;
  std::ofstream(folder / "m/config.json") << bert_config_json(golden.config);
  const std::string message = error_of([&] { load_bert(folder / "m"); });
  EXPECT_THAT(message, HasSubstr("(16 missing, 2 of another shape)"));
  EXPECT_THAT(message, HasSubstr("missing: bert.encoder.layer.2.output.LayerNorm.bias F32 [18]; "
                                 "nearest: bert.encoder.layer.0.output.LayerNorm.bias"));
  EXPECT_THAT(message, HasSubstr("bert.embeddings.word_embeddings.weight F32 [53,18] where [54,18] "
                                 "is expected"));
}

TEST(BertFolder, TheBareEncoderOfTransformersComputesItsHiddenStates) {
  if (!fs::exists(kShared / "tiny_bert.safetensors")) GTEST_SKIP() << "no " << kShared;
  const TestFolder folder;
  fs::copy_file(kShared / "tiny_bert.safetensors", folder / "model.safetensors");
  fs::copy_file(kShared / "tiny_bert_config.json", folder / "config.json");
  EXPECT_THAT(error_of([&] { load_bert(folder.path()); }), HasSubstr("(5 missing)"));
  const BertFolder loaded = load_bert(folder.path(), BertHeadIs::optional);
  EXPECT_EQ(loaded.weights.missing.size(), 5u);
  EXPECT_EQ(loaded.weights.ignored.size(), 2u);

  std::ifstream file(kShared / "tiny_bert_hidden.json");
  const nlohmann::json expected = nlohmann::json::parse(file);
  const auto rows = expected.at("sequences").get<std::vector<std::vector<int64_t>>>();
  const auto types = expected.at("token_types").get<std::vector<std::vector<int64_t>>>();
  const Shape shape{static_cast<int64_t>(rows.size()), static_cast<int64_t>(rows[0].size())};
  train::Step step = train::make_forward(
      BertForMaskedLm(loaded.config),
      [&](const BertForMaskedLm& model, const train::Trace& trace) -> train::NamedTensors {
        const BertInputs inputs{.input_ids = trace.batch("ids", DType::i64, shape),
                                .token_type_ids = trace.batch("types", DType::i64, shape)};
        return {{"hidden", bert_encode(model, inputs, trace.context)}};
      },
      {.compile = {.backend = "interp"}});
  step.initialize(0);
  for (const auto& [path, values] : loaded.weights.tensors) step.set_parameter(path, values);
  std::vector<int64_t> ids, type_ids;
  for (const auto& row : rows) ids.insert(ids.end(), row.begin(), row.end());
  for (const auto& row : types) type_ids.insert(type_ids.end(), row.begin(), row.end());
  step.set_batch("ids", ids.data());
  step.set_batch("types", type_ids.data());
  step.run();
  const std::vector<double> hidden = step.executable().output("hidden").to_doubles();
  size_t i = 0;
  for (const auto& sequence : expected.at("hidden")) {
    for (const auto& position : sequence) {
      // The other implementation computes in f32.
      for (const double want : position) EXPECT_NEAR(hidden.at(i++), want, 1e-5);
    }
  }
  EXPECT_EQ(i, hidden.size());
}

}  // namespace
}  // namespace espalier::models
