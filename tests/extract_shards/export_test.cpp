// SPDX-License-Identifier: Apache-2.0
// Exports: what is in their files. That SAELens reads them is a check of the peers' environment.
#include "espalier/extract/export.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "espalier/io/json.h"
#include "tests/extract_shards/made_run.h"
#include "tests/io/folder.h"
#include "tests/support/errors.h"

namespace espalier::extract {
namespace {

namespace fs = std::filesystem;
using test::message;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string contents(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class ExportTest : public ::testing::Test {
 protected:
  ExportTest() { run_.write(*open_folder_store(folder_ / "run")); }
  ExportOptions options() const {
    return {.run = (folder_ / "run").string(), .output = (folder_ / "out").string(), .context = 16};
  }
  /// The row of a token as f32, after rounding to bf16.
  std::string row(size_t hook, int64_t token) {
    std::vector<float> values;
    for (int64_t c = 0; c < 24; ++c) {
      values.push_back(from_bf16(to_bf16(run_.value(hook, token, c))));
    }
    return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
  }

  TestFolder folder_;
  MadeRun run_{{}};
};

TEST_F(ExportTest, WritesRowsOfTokensInOrder) {
  int64_t shown = 0;
  ExportOptions o = options();
  o.progress = [&](int64_t tokens, int64_t total) {
    EXPECT_LE(tokens, total);
    shown = tokens;
  };
  const ExportReport report = export_sae_lens(o);
  EXPECT_THAT(report.columns, ElementsAre("blocks.0.hook_resid_post", "blocks.1.hook_resid_post"));
  EXPECT_EQ(report.rows, run_.tokens() / 16);
  EXPECT_EQ(report.tokens + report.left_over, run_.tokens());
  EXPECT_EQ(shown, report.tokens);
  EXPECT_EQ(report.files, 1);
  const auto info = nlohmann::json::parse(contents(folder_ / "out/dataset_info.json"));
  const auto& column = info.at("features").at("blocks.1.hook_resid_post");
  EXPECT_EQ(column.dump(), R"({"_type":"Array2D","dtype":"float32","shape":[16,24]})");
  EXPECT_EQ(info.at("features").at("token_ids").at("length"), 16);
  const auto state = nlohmann::json::parse(contents(folder_ / "out/state.json"));
  EXPECT_EQ(state.at("_data_files").dump(), R"([{"filename":"data-00000-of-00001.arrow"}])");
  EXPECT_EQ(state.at("_fingerprint").get<std::string>().size(), 16u);

  const std::string arrow = contents(folder_ / "out/data-00000-of-00001.arrow");
  EXPECT_EQ(std::ssize(arrow), report.bytes);
  EXPECT_EQ(arrow.substr(0, 4), "\xFF\xFF\xFF\xFF");
  EXPECT_EQ(arrow.substr(arrow.size() - 8), std::string("\xFF\xFF\xFF\xFF\0\0\0\0", 8));
  EXPECT_THAT(arrow, HasSubstr(R"([[16,24],"float32"])"));
  // The rows of both columns lie in one piece each, where vector code wants them.
  for (size_t hook = 0; hook < 2; ++hook) {
    const size_t begin = arrow.find(row(hook, 0));
    ASSERT_NE(begin, std::string::npos);
    EXPECT_EQ(begin % 64, 0u);
    for (int64_t t = 0; t < report.tokens; ++t) {
      ASSERT_EQ(arrow.compare(begin + static_cast<size_t>(t) * 96, 96, row(hook, t)), 0) << t;
    }
  }
}

TEST_F(ExportTest, CutsFilesAndKeepsNames) {
  ExportOptions o = options();
  o.hooks = {"*.1"};
  o.transformer_lens = false;
  o.context = 1;
  o.file_bytes = 1;  // a batch each
  o.dtype = DType::f16;
  const ExportReport report = export_sae_lens(o);
  EXPECT_THAT(report.columns, ElementsAre("resid_post.1"));
  EXPECT_EQ(report.rows, run_.tokens());
  EXPECT_EQ(report.left_over, 0);
  EXPECT_EQ(report.files, 1);
  EXPECT_TRUE(fs::exists(folder_ / "out/data-00000-of-00001.arrow"));
  EXPECT_THAT(contents(folder_ / "out/data-00000-of-00001.arrow"), HasSubstr("\"float16\""));
}

TEST_F(ExportTest, ShufflesByTheSeed) {
  ExportOptions o = options();
  o.shuffle = true;
  export_sae_lens(o);
  const auto file = folder_ / "out/data-00000-of-00001.arrow";
  const std::string first = contents(file);
  EXPECT_EQ(first.find(row(0, 0) + row(0, 1)), std::string::npos);
  for (const uint64_t seed : {0, 1}) {
    fs::remove_all(folder_ / "out");
    o.seed = seed;
    export_sae_lens(o);
    EXPECT_EQ(contents(file) == first, seed == 0);
  }
}

TEST_F(ExportTest, WhatCannotBeIsRefusedAndLeavesNothing) {
  ExportOptions o = options();
  o.context = run_.tokens() + 1;
  EXPECT_THAT(message(ErrorKind::user, [&] { export_sae_lens(o); }),
              HasSubstr("tokens do not fill one row of"));
  o = options();
  o.dtype = DType::bf16;
  EXPECT_THAT(message(ErrorKind::unsupported, [&] { export_sae_lens(o); }),
              HasSubstr("Arrow has no bf16: choose float32 or float16"));
  o = options();
  o.hooks = {"resid_pre.*"};
  EXPECT_THAT(message(ErrorKind::user, [&] { export_sae_lens(o); }),
              HasSubstr("\"resid_pre.*\" is none of the run's 2 activations"));
  o = options();
  o.context = 0;
  EXPECT_THAT(message(ErrorKind::user, [&] { export_sae_lens(o); }),
              HasSubstr("context 0 and file size"));
  EXPECT_EQ(folder_.count(), 1) << "the run alone";
  fs::create_directory(folder_ / "out");
  export_sae_lens(options());
  EXPECT_THAT(message(ErrorKind::user, [&] { export_sae_lens(options()); }),
              HasSubstr("out holds something; name another folder"));

  MadeRun large({.samples = 7});
  large.value(0, 3, 3) = 1e6f;
  large.write(*open_folder_store(folder_ / "large"));
  o = options();
  o.run = (folder_ / "large").string();
  o.output = (folder_ / "half").string();
  o.dtype = DType::f16;
  EXPECT_THAT(message(ErrorKind::data, [&] { export_sae_lens(o); }),
              HasSubstr("blocks.0.hook_resid_post has values beyond float16"));
  EXPECT_FALSE(fs::exists(folder_ / "half"));
}

TEST(Export, NamesOfTransformerLens) {
  EXPECT_EQ(transformer_lens_name("resid_post.10"), "blocks.10.hook_resid_post");
  EXPECT_EQ(transformer_lens_name("attn_out.0"), "blocks.0.hook_attn_out");
  EXPECT_EQ(transformer_lens_name("embed"), "hook_embed");
  EXPECT_EQ(transformer_lens_name("final_norm"), "ln_final.hook_normalized");
  EXPECT_EQ(transformer_lens_name("other.1"), "other.1");
}

}  // namespace
}  // namespace espalier::extract
