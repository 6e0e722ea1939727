// SPDX-License-Identifier: Apache-2.0
// Folders of weights: what is accepted, what is saved, and that all that is wrong is said at once.
#include "espalier/io/weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "espalier/io/weights_files.h"
#include "tests/io/folder.h"
#include "tests/support/errors.h"

namespace espalier::io {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Tensors = std::map<std::string, HostTensor>;

HostTensor numbers(Shape shape, double start, DType dtype = DType::f32) {
  HostTensor tensor(dtype, std::move(shape));
  for (int64_t i = 0; i < tensor.numel(); ++i) tensor.set(i, start + 0.25 * static_cast<double>(i));
  return tensor;
}

Tensors example() {
  return {{"enc.embed.weight", numbers({3, 2}, 1.0)},
          {"enc.norm.bias", numbers({2}, -1.0)},
          {"enc.norm.weight", numbers({2}, 2.0)},
          {"head.bias", numbers({3}, 0.5)}};
}

const std::vector<WantedTensor> kWanted = {
    {.path = "enc.embed.weight", .shape = {3, 2}, .also = {"head.decoder.weight"}},
    {.path = "enc.norm.weight", .shape = {2}},
    {.path = "enc.norm.bias", .shape = {2}},
    {.path = "head.bias", .shape = {3}}};

const WeightNames kNames = {.base_prefix = "enc.",
                            .endings = {{"norm.gamma", "norm.weight"}, {"norm.beta", "norm.bias"}},
                            .ignored = {"enc.ids", "enc.pooler.*"}};

void expect_values(const LoadedWeights& loaded, const Tensors& expected) {
  ASSERT_EQ(loaded.tensors.size(), expected.size());
  for (const auto& [path, tensor] : expected) {
    ASSERT_TRUE(loaded.tensors.contains(path)) << path;
    EXPECT_EQ(loaded.tensors.at(path).to_doubles(), tensor.to_doubles()) << path;
  }
}

void put(const fs::path& path, std::string_view text) { std::ofstream(path) << text; }

TEST(Weights, RoundTripInEveryDtypeSingleAndSharded) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    for (const int64_t limit : {int64_t{1} << 30, int64_t{16}, int64_t{1}}) {
      const TestFolder folder;
      save_weights(folder / "m", example(), {.dtype = dtype, .max_shard_bytes = limit});
      EXPECT_EQ(fs::exists(folder / "m" / kWeightFile), limit > 16);
      EXPECT_EQ(fs::exists(folder / "m" / kWeightIndex), limit <= 16);
      const LoadedWeights loaded = load_weights(folder / "m", kWanted, kNames);
      expect_values(loaded, example());  // quarters are exact in all three
      EXPECT_EQ(loaded.tensors.at("head.bias").dtype(), dtype);
      EXPECT_EQ(folder.count(), 1);
    }
  }
}

TEST(Weights, ShardsHoldAtMostTheLimit) {
  const TestFolder folder;
  save_weights(folder / "m", example(), {.max_shard_bytes = 24});
  // 24 | 8 + 8 | 12 bytes by name.
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(fs::exists(folder / "m" / shard_name(i, 3)));
  EXPECT_EQ(shard_name(1, 3), "model-00002-of-00003.safetensors");
  EXPECT_THAT(read_text(folder / "m" / kWeightIndex, 1 << 20, {}),
              AllOf(HasSubstr("\"total_size\": 52"),
                    HasSubstr("\"enc.norm.bias\": \"model-00002-of-00003.safetensors\"")));
}

TEST(Weights, OneFileIsEnough) {
  const TestFolder folder;
  save_weights(folder / "m", example());
  expect_values(load_weights(folder / "m/model.safetensors", kWanted), example());
}

TEST(Weights, OldNamesBuffersAndTheBareEncoder) {
  const TestFolder folder;
  Tensors old = example();
  const auto rename = [&](const char* from, const char* to) {
    auto node = old.extract(from);
    node.key() = to;
    old.insert(std::move(node));
  };
  rename("enc.norm.weight", "norm.gamma");
  rename("enc.norm.bias", "norm.beta");
  rename("enc.embed.weight", "embed.weight");
  old.emplace("ids", numbers({5}, 0.0, DType::i64));
  old.emplace("pooler.dense.bias", numbers({2}, 0.0));
  save_safetensors(folder / "model.safetensors", old);
  const LoadedWeights loaded = load_weights(folder.path(), kWanted, kNames);
  expect_values(loaded, example());
  EXPECT_THAT(loaded.ignored, ElementsAre("ids", "pooler.dense.bias"));

  old.erase("head.bias");
  save_safetensors(folder / "model.safetensors", old);
  WeightNames names = kNames;
  names.optional = {"head.*"};
  EXPECT_THAT(load_weights(folder.path(), kWanted, names).missing, ElementsAre("head.bias"));
}

TEST(Weights, TiedTensorsMayComeUnderAnyNameAndMustAgree) {
  const TestFolder folder;
  Tensors both = example();
  both.emplace("head.decoder.weight", both.at("enc.embed.weight").clone());
  save_safetensors(folder / "model.safetensors", both);
  expect_values(load_weights(folder.path(), kWanted), example());

  both.at("head.decoder.weight").set(1, 77.0);
  save_safetensors(folder / "model.safetensors", both);
  EXPECT_THAT(error_of([&] { load_weights(folder.path(), kWanted); }),
              HasSubstr("different though tied: model.safetensors:head.decoder.weight differs from "
                        "model.safetensors:enc.embed.weight"));

  both.erase("enc.embed.weight");
  save_safetensors(folder / "model.safetensors", both);
  EXPECT_EQ(load_weights(folder.path(), kWanted).tensors.at("enc.embed.weight").get(1), 77.0);
}

TEST(Weights, EverythingWrongIsListedAtOnceWithTheNearestName) {
  const TestFolder folder;
  Tensors wrong = example();
  wrong.erase("enc.norm.bias");
  wrong.emplace("enc.norm.bais", numbers({2}, 0.0));
  wrong.at("enc.norm.weight") = numbers({3}, 0.0);
  wrong.at("head.bias") = numbers({3}, 0.0, DType::i64);
  save_safetensors(folder / "model.safetensors", wrong);
  const std::string message = error_of([&] { load_weights(folder.path(), kWanted); });
  EXPECT_THAT(
      message,
      AllOf(HasSubstr("[weights] the tensors do not fit the model (1 missing, 1 not known, 1 of "
                      "another shape, 1 of another type), at "),
            HasSubstr("\n  missing: enc.norm.bias F32 [2]; nearest: enc.norm.bais"),
            HasSubstr("\n  not known: enc.norm.bais F32 [2]; nearest: enc.norm.bias"),
            HasSubstr("\n  of another shape: model.safetensors:enc.norm.weight F32 [3] where [2] "
                      "is expected"),
            HasSubstr("\n  of another type: model.safetensors:head.bias I64 [3] where F32 is "
                      "expected (F32, BF16, F16 or F64 in a file)")));
}

TEST(Weights, AMissingTensorAloneNamesTheNearestThatIsThere) {
  const TestFolder folder;
  Tensors wrong = example();
  wrong.erase("enc.norm.bias");
  save_safetensors(folder / "model.safetensors", wrong);
  EXPECT_THAT(error_of([&] { load_weights(folder.path(), kWanted); }),
              HasSubstr("missing: enc.norm.bias F32 [2]; nearest: enc.norm.weight"));
}

TEST(Weights, TheIndexAndTheShardsMustAgree) {
  const TestFolder folder;
  save_weights(folder / "m", example(), {.max_shard_bytes = 24});
  const fs::path index = folder / "m" / kWeightIndex;
  const auto refusal = [&](std::string_view text) {
    put(index, text);
    return error_of([&] { load_weights(folder / "m", kWanted); });
  };
  EXPECT_THAT(refusal("{"), HasSubstr("no weight_map of tensors and files, at "));
  EXPECT_THAT(refusal(R"({"weight_map": {"a": "../x.safetensors"}})"),
              HasSubstr("weight_map puts a into \"../x.safetensors\", which is no .safetensors "
                        "file of this folder"));
  EXPECT_THAT(refusal(R"({"weight_map": {"a": 3}})"), HasSubstr("weight_map puts a into 3"));
  EXPECT_THAT(refusal(R"({"weight_map": {"a": "y.safetensors", "b": "x.safetensors"}})"),
              HasSubstr("2 of 2 files of weights are not there: x.safetensors, y.safetensors"));
  EXPECT_THAT(refusal(R"({"weight_map": {"enc.embed.weight": "model-00002-of-00003.safetensors",
                                 "head.bias": "model-00001-of-00003.safetensors",
                                 "gone": "model-00001-of-00003.safetensors"}})"),
              AllOf(HasSubstr("against the index: enc.embed.weight is in "
                              "model-00001-of-00003.safetensors, the index says "
                              "model-00002-of-00003.safetensors"),
                    HasSubstr("against the index: gone is not in model-00001-of-00003.safetensors"),
                    HasSubstr("model-00002-of-00003.safetensors:enc.norm.bias is not in the index"),
                    HasSubstr("missing: head.bias")));
}

TEST(Weights, FoldersWithoutWeightsSayWhatTheyHave) {
  const TestFolder folder;
  EXPECT_THAT(error_of([&] { load_weights(folder / "no", kWanted); }),
              HasSubstr("no does not exist"));
  EXPECT_THAT(error_of([&] { load_weights(folder.path(), kWanted); }),
              HasSubstr("has neither model.safetensors nor model.safetensors.index.json"));
  put(folder / "pytorch_model.bin", "x");
  EXPECT_THAT(error_of([&] { load_weights(folder.path(), kWanted); }),
              HasSubstr("has pytorch_model.bin but no model.safetensors; save it again with "
                        "safe_serialization=True"));
}

TEST(Weights, SavingReplacesASavedModelAndNothingElse) {
  const TestFolder folder;
  save_weights(folder / "m", example(), {.max_shard_bytes = 16, .files = {{"config.json", "{}"}}});
  save_weights(folder / "m", example(), {.files = {{"config.json", "{1}"}, {"vocab.txt", "a"}}});
  EXPECT_EQ(read_text(folder / "m/config.json", 100, {}), "{1}");
  EXPECT_FALSE(fs::exists(folder / "m" / kWeightIndex));
  put(folder / "m/notes.txt", "mine");
  EXPECT_THAT(error_of([&] { save_weights(folder / "m", example()); }),
              HasSubstr("m holds notes.txt, which is no part of a saved model and would be lost; "
                        "choose another folder"));
  EXPECT_EQ(read_text(folder / "m/notes.txt", 100, {}), "mine");
  put(folder / "file", "x");
  EXPECT_THAT(error_of([&] { save_weights(folder / "file", example()); }),
              HasSubstr("is a file; weights are saved as a folder"));
}

TEST(Weights, ValuesThatF16CannotHoldAreNamedAndNothingIsLeft) {
  const TestFolder folder;
  Tensors large = example();
  large.at("head.bias").set(2, 70000.0);
  EXPECT_THAT(error_of([&] { save_weights(folder / "m", large, {.dtype = DType::f16}); }),
              HasSubstr("head.bias[2] = 70000 is beyond the range of f16; save as f32 or bf16"));
  EXPECT_EQ(folder.count(), 0);
  save_weights(folder / "m", large, {.dtype = DType::bf16});
  EXPECT_THAT(error_of([&] { save_weights(folder / "n", large, {.dtype = DType::i64}); }),
              HasSubstr("weights are saved as f32, bf16 or f16, not i64"));
}

}  // namespace
}  // namespace espalier::io
