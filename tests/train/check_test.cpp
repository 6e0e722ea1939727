// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/check.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <functional>
#include <limits>
#include <map>
#include <set>

#include "espalier/base/error.h"
#include "espalier/io/safetensors.h"
#include "tests/support/errors.h"

namespace espalier::train {
namespace {

using test::error_of;

namespace fs = std::filesystem;
using ::testing::HasSubstr;

const fs::path kGoldens = fs::path(ESPALIER_SOURCE_DIR) / "tests/goldens";

/// What a row is of: "grad.qkv.bias" of its part "grad.qkv.bias[query]".
std::string result_of(const CheckRow& row) { return row.what.substr(0, row.what.find('[')); }

/// No bound may be wider, whatever follows from a model: in f32 by far, in narrow types such that
/// zeros do not pass. The gradient of a key bias is zero but for roundings, and Adam makes steps of
/// it.
double ceiling(const CheckRow& row, DType dtype) {
  const bool key = row.what.ends_with("key.bias") || row.what.ends_with("[key]");
  return dtype == DType::f32 ? (key ? 0.05 : 1e-2) : (key ? 2.0 : 0.9);
}

void expect_parity(const fs::path& folder, const CheckOptions& options) {
  const CheckReport report = check_folder(folder, options);
  std::set<std::string> compared;
  for (const CheckRow& row : report.rows) {
    compared.insert(result_of(row));
    EXPECT_TRUE(row.pass()) << fmt::format("{}: deviation {:.3g}, bound {:.3g}", row.what,
                                           row.deviation, row.bound);
    EXPECT_LE(row.bound, ceiling(row, options.dtype)) << row.what;
  }
  EXPECT_TRUE(compared.contains("logits"));
  EXPECT_TRUE(compared.contains("train.loss"));
  EXPECT_TRUE(std::any_of(compared.begin(), compared.end(),
                          [](const std::string& what) { return what.starts_with("hook."); }));
  const io::SafetensorsFile parameters = io::SafetensorsFile::open(folder / "model.safetensors");
  for (const io::SafetensorsEntry& entry : parameters.entries()) {
    EXPECT_TRUE(compared.contains("grad." + entry.name)) << entry.name;
    EXPECT_TRUE(compared.contains("after." + entry.name)) << entry.name;
  }
  const CheckRow& worst = report.worst();
  fmt::print("{} {} {} {} fuse {} flash {}: worst {}, deviation {:.3g} of bound {:.3g}\n",
             folder.filename().string(), options.backend, name(options.dtype), options.variant,
             options.fuse, options.flash, worst.what, worst.deviation, worst.bound);
}

/// Folders beside this one that say what a model computes.
std::vector<std::string> fixtures() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(kGoldens)) {
    if (fs::exists(entry.path() / "expected.json")) names.push_back(entry.path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

class Golden : public ::testing::TestWithParam<std::string> {};

TEST_P(Golden, InterpreterAgreesInDouble) {
  for (const char* variant : {"library", "handcraft"}) {
    expect_parity(kGoldens / GetParam(), {.backend = "interp", .variant = variant});
  }
}

TEST_P(Golden, RoundedInterpreterStaysInTheDerivedBound) {
  expect_parity(kGoldens / GetParam(), {.backend = "interp-f32", .variant = "handcraft"});
}

TEST_P(Golden, CpuStaysInTheDerivedBound) {
  expect_parity(kGoldens / GetParam(), {.backend = "cpu", .variant = "handcraft"});
  for (bool fuse : {true, false}) {
    for (bool flash : {true, false}) {
      expect_parity(kGoldens / GetParam(), {.backend = "cpu", .fuse = fuse, .flash = flash});
    }
  }
}

TEST_P(Golden, NarrowTypesStayInTheDerivedBound) {
  for (DType dtype : {DType::bf16, DType::f16}) {
    expect_parity(kGoldens / GetParam(), {.backend = "cpu", .dtype = dtype});
  }
}

INSTANTIATE_TEST_SUITE_P(Fixtures, Golden, ::testing::ValuesIn(fixtures()),
                         [](const auto& info) { return info.param; });

TEST(Check, NarrowTypesWithoutFusionAndFlashStayInTheDerivedBound) {
  for (DType dtype : {DType::bf16, DType::f16}) {
    expect_parity(kGoldens / "byte_lm_tiny",
                  {.backend = "cpu", .dtype = dtype, .fuse = false, .flash = false});
  }
}

// The reference implementation's own numbers, where they lie beside the sources.
class Reference : public ::testing::TestWithParam<const char*> {};

TEST_P(Reference, Agrees) {
  const fs::path sources(ESPALIER_SOURCE_DIR);
  const fs::path name = fs::path("shared/golden") / GetParam();
  fs::path folder = sources / ".." / name;
  if (!fs::exists(folder)) folder = sources / "../.." / name;
  if (!fs::exists(folder)) GTEST_SKIP() << name.string() << " is not there";
  for (const char* variant : {"library", "handcraft"}) expect_parity(folder, {.variant = variant});
  expect_parity(folder, {.backend = "cpu"});
}

INSTANTIATE_TEST_SUITE_P(Shared, Reference,
                         ::testing::Values("byte_lm", "bert_gelu", "qwen2_tied", "qwen2_untied"));

/// A copy of a fixture that a test may damage.
class CheckError : public ::testing::Test {
 protected:
  void SetUp() override { copy("byte_lm_tiny"); }
  void TearDown() override { fs::remove_all(folder_); }
  void copy(const std::string& fixture) {
    fs::remove_all(folder_);
    fs::copy(kGoldens / fixture, folder_);
  }
  void replace(const std::string& from, const std::string& to, const char* file = "expected.json") {
    std::ifstream in(folder_ / file);
    std::string text((std::istreambuf_iterator<char>(in)), {});
    in.close();
    const size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    text.replace(at, from.size(), to);
    std::ofstream(folder_ / file) << text;
  }
  std::string check() {
    return error_of([&] { check_folder(folder_, {}); });
  }
  fs::path folder_ = fs::temp_directory_path() / fmt::format("espalier_check_{}", ::getpid());
};

TEST_F(CheckError, MissingFolderNamesTheFile) {
  EXPECT_THAT(error_of([] { check_folder("/nowhere/at/all", {}); }),
              HasSubstr("/nowhere/at/all/config.json cannot be read"));
}

TEST_F(CheckError, UnknownModelNamesIt) {
  replace("\"byte_lm\"", "\"bight_lm\"");
  EXPECT_THAT(check(),
              HasSubstr("there is no check for model_type \"bight_lm\"; nearest: byte_lm"));
}

TEST_F(CheckError, MissingAndWrongSettingsNameTheKey) {
  replace("\"hidden\"", "\"hiden\"");
  EXPECT_THAT(check(), HasSubstr("expected.json: hidden is missing"));
  replace("\"hiden\": 24", "\"hidden\": \"x\"");
  EXPECT_THAT(check(), HasSubstr("expected.json: hidden = \"x\" is of another type"));
}

TEST_F(CheckError, OtherSizesThanTheCheckpointsAreErrors) {
  replace("\"ffn\": 48", "\"ffn\": 50");
  EXPECT_THAT(check(), HasSubstr("mlp.up.weight"));
}

TEST_F(CheckError, WrongNumbersAreFound) {
  replace("\"lr\": 0.001", "\"lr\": 0.0011");
  const CheckReport report = check_folder(folder_, {});
  EXPECT_FALSE(report.pass());
  for (const CheckRow& row : report.rows) {
    const bool trained = row.what.starts_with("after.") || row.what == "train.loss";
    EXPECT_TRUE(trained || row.pass()) << row.what;
  }
}

/// Whether the result is beyond its bound.
bool fails(const CheckReport& report, std::string_view what) {
  return std::any_of(report.rows.begin(), report.rows.end(),
                     [&](const CheckRow& row) { return result_of(row) == what && !row.pass(); });
}

// A bound allows for roundings, never for another model.
TEST_F(CheckError, AWrongModelIsFoundWhereRoundingsAreAllowed) {
  const struct {
    const char *fixture, *file, *from, *to, *fails;
    std::vector<DType> dtypes;
  } faults[] = {
      {"byte_lm_tiny",
       "expected.json",
       "\"lr\": 0.001",
       "\"lr\": 0.0011",
       "after.embedding.weight",
       {DType::f32}},
      {"byte_lm_tiny",
       "expected.json",
       "\"norm_eps\": 1e-05",
       "\"norm_eps\": 0.001",
       "logits",
       {DType::f32}},
      {"byte_lm_tiny",
       "expected.json",
       "\"norm_eps\": 1e-05",
       "\"norm_eps\": 0.5",
       "logits",
       {DType::bf16, DType::f16}},
      {"bert_tanh", "config.json", "\"gelu_new\"", "\"gelu\"", "logits", {DType::f32}},
      {"bert_tanh", "config.json", "\"gelu_new\"", "\"relu\"", "logits", {DType::bf16, DType::f16}},
      {"bert_tanh",
       "expected.json",
       "\"weight_decay\": 0.01",
       "\"weight_decay\": 0.011",
       "after.bert.embeddings.word_embeddings.weight",
       {DType::f32}},
      {"qwen2_grouped",
       "config.json",
       "\"rope_theta\": 10000.0",
       "\"rope_theta\": 9000.0",
       "logits",
       {DType::f32}},
      {"qwen2_grouped",
       "config.json",
       "\"rope_theta\": 10000.0",
       "\"rope_theta\": 7.0",
       "logits",
       {DType::bf16, DType::f16}},
  };
  for (const auto& fault : faults) {
    copy(fault.fixture);
    replace(fault.from, fault.to, fault.file);
    for (const DType dtype : fault.dtypes) {
      const CheckReport report = check_folder(folder_, {.backend = "cpu", .dtype = dtype});
      EXPECT_TRUE(fails(report, fault.fails)) << fault.to << " " << name(dtype);
    }
  }
}

// The reference rounds on its way: so did `transformers` in the folders of Qwen2.
TEST_F(CheckError, AWrongModelIsFoundBesideAReferenceThatRounds) {
  const std::pair<const char*, bool> cases[] = {{"10000.0", true}, {"9000.0", false}};
  for (const auto& [theta, passes] : cases) {
    copy("qwen2_grouped");
    replace("\"float64\"", "\"float32\"");
    replace("10000.0", theta, "config.json");
    for (const char* backend : {"interp", "cpu"}) {
      const CheckReport report = check_folder(folder_, {.backend = backend});
      EXPECT_EQ(report.pass(), passes) << theta << " " << backend;
      EXPECT_EQ(fails(report, "logits"), !passes) << theta << " " << backend;
    }
  }
}

TEST(Check, ABoundThatSaysNothingFails) {
  constexpr double kInf = std::numeric_limits<double>::infinity();
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_TRUE((CheckRow{"logits", 1.0, 1.0}).pass());
  for (const CheckRow& row :
       {CheckRow{"logits", 2.0, 1.0}, CheckRow{"logits", kNan, 1.0}, CheckRow{"logits", 1.0, kInf},
        CheckRow{"logits", kInf, kInf}, CheckRow{"logits", 0.0, kNan}}) {
    EXPECT_FALSE(row.pass()) << row.deviation << " " << row.bound;
  }
}

/// Writes expected.safetensors again with what `change` leaves of it.
void change_expected(const fs::path& folder,
                     const std::function<void(std::map<std::string, HostTensor>&)>& change) {
  const fs::path path = folder / "expected.safetensors";
  std::map<std::string, HostTensor> tensors;
  const io::SafetensorsFile expected = io::SafetensorsFile::open(path);
  for (const auto& [name, values] : expected.tensors()) tensors.emplace(name, values.clone());
  change(tensors);
  io::save_safetensors(path, tensors);
}

TEST_F(CheckError, AFolderWithoutResultsIsAnError) {
  change_expected(folder_, [](auto& tensors) {
    std::erase_if(tensors, [](const auto& t) { return t.first != "input_bytes"; });
  });
  EXPECT_THAT(check(), HasSubstr("expected.safetensors holds no results to compare"));
}

TEST_F(CheckError, RowsThatAreAllPaddingAreAnError) {
  copy("qwen2_grouped");
  change_expected(folder_, [](auto& tensors) {
    HostTensor& mask = tensors.at("attention_mask");
    std::memset(mask.data(), 0, static_cast<size_t>(mask.bytes()));
  });
  EXPECT_THAT(check(), HasSubstr("holds no number to compare"));
}

}  // namespace
}  // namespace espalier::train
