// SPDX-License-Identifier: Apache-2.0
// The real program, extracting from a small dataset with a tiny model.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "tests/io/folder.h"
#include "tests/support/program.h"
#include "tests/torture/inputs.h"

namespace espalier::extract {

namespace fs = std::filesystem;
using test::Ran;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Arguments = std::vector<std::string>;

class ExtractInput : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    shared_ = new TestFolder;
    inputs_ = new torture::Inputs(torture::make_inputs(shared_->path(), 1, 5));
  }
  static void TearDownTestSuite() {
    delete inputs_;
    delete shared_;
  }

  std::string data() const { return folder_ / "data.jsonl"; }
  std::string output() const { return folder_ / "run"; }
  void write(const std::string& text) const { std::ofstream(data(), std::ios::binary) << text; }

  /// Extraction from data(), with more arguments; later ones win.
  Arguments arguments(const Arguments& more = {}) const {
    Arguments all{"extract",
                  "--model",
                  inputs_->model,
                  "--tokenizer",
                  inputs_->tokenizer,
                  "--dataset",
                  data(),
                  "--max-seq-length",
                  "16",
                  "--batch-size",
                  "1",
                  "--threads",
                  "1",
                  "--shard-tokens",
                  "20",
                  "--output",
                  output(),
                  "--lease-seconds",
                  "0.1"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  Ran extract(const Arguments& more = {}) const { return test::run(arguments(more)); }

  void expect_error(const Ran& ran, int code, const ::testing::Matcher<std::string>& text) const {
    EXPECT_EQ(ran.code, code) << ran.out << ran.err;
    EXPECT_THAT(ran.err, AllOf(HasSubstr("espalier: error: ["), text));
  }
  /// Path to contents of everything below the run.
  std::map<std::string, std::string> contents() const {
    std::map<std::string, std::string> all;
    for (const auto& entry : fs::recursive_directory_iterator(output())) {
      if (entry.is_regular_file()) all[entry.path()] = test::read_file(entry.path());
    }
    return all;
  }

  inline static TestFolder* shared_ = nullptr;
  inline static torture::Inputs* inputs_ = nullptr;
  test::Folder folder_;
};

inline constexpr const char* kLines = R"({"id":"one","tokens":[1,2,3]}
{"id":"two","tokens":[4,5,6,7]}
)";

}  // namespace espalier::extract
