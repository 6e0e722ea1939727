// SPDX-License-Identifier: Apache-2.0
// The audit that the attacks rely on sees what it is there for.
#include "tests/torture/audit.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/io/folder.h"
#include "tests/support/program.h"

namespace espalier::torture {
namespace {

namespace fs = std::filesystem;
using ::testing::Contains;
using ::testing::HasSubstr;

class AuditTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    shared_ = new TestFolder;
    inputs_ = new Inputs(make_inputs(shared_->path(), 2, 9));
    std::vector<std::string> arguments = inputs_->arguments;
    arguments.insert(arguments.end(), {"--output", *shared_ / "run"});
    ASSERT_EQ(test::run(arguments).code, 0);
    sums_ = new Checksums(shard_checksums(*shared_ / "run"));
    ASSERT_GE(sums_->size(), 2u);
  }
  static void TearDownTestSuite() {
    delete sums_;
    delete inputs_;
    delete shared_;
  }
  void SetUp() override { fs::copy(*shared_ / "run", run_, fs::copy_options::recursive); }
  void TearDown() override { fs::remove_all(run_); }

  static Audit audit() { return audit_run(run_, inputs_->samples, *sums_); }
  static fs::path shard(int index) {
    return run_ / fmt::format("shards/shard-{:08}.safetensors", index);
  }
  static void write(const fs::path& path, const std::string& text) {
    std::ofstream(path, std::ios::binary) << text;
  }
  /// manifest.jsonl with one line changed.
  static void edit_manifest(int shard, const std::function<void(nlohmann::json&)>& edit) {
    std::istringstream lines(test::read_file(run_ / "manifest.jsonl"));
    std::string all;
    for (std::string line; std::getline(lines, line);) {
      nlohmann::json entry = nlohmann::json::parse(line);
      if (entry.at("shard") == shard) edit(entry);
      all += entry.dump() + "\n";
    }
    write(run_ / "manifest.jsonl", all);
  }

  inline static TestFolder* shared_ = nullptr;
  inline static Inputs* inputs_ = nullptr;
  inline static Checksums* sums_ = nullptr;
  inline static fs::path run_ =
      fs::path(::testing::TempDir()) / fmt::format("audit-{}", ::getpid());
};

TEST_F(AuditTest, AnUndisturbedRunPasses) {
  const Audit found = audit();
  EXPECT_TRUE(found.pass()) << fmt::format("{}", fmt::join(found.wrong, "\n"));
  EXPECT_EQ(found.shards, static_cast<int64_t>(sums_->size()));
  EXPECT_GE(found.samples, static_cast<int64_t>(inputs_->samples.size()));
}

TEST_F(AuditTest, LostSamplesAreCounted) {
  std::vector<WantedSample> more = inputs_->samples;
  more.push_back({.id = "never-there", .tokens = {}});
  more[more.size() - 2].tokens.push_back(1);
  const Audit found = audit_run(run_, more, *sums_);
  EXPECT_EQ(found.lost, 2);
  EXPECT_THAT(found.wrong, Contains(HasSubstr("sample never-there is missing")));
  EXPECT_THAT(found.wrong, Contains(HasSubstr("does not have its tokens")));
}

TEST_F(AuditTest, AMissingShardLosesItsSamples) {
  fs::remove(shard(1));
  const Audit found = audit();
  EXPECT_EQ(found.damaged, 1);
  EXPECT_GT(found.lost, 0);
}

TEST_F(AuditTest, ASampleThatIsThereTwiceIsCounted) {
  // The first shard in the place of the second, with a manifest that agrees.
  const std::string bytes = test::read_file(shard(0));
  write(shard(1), bytes);
  std::istringstream lines(test::read_file(run_ / "manifest.jsonl"));
  std::string first;
  std::getline(lines, first);
  edit_manifest(1, [&](nlohmann::json& entry) {
    entry = nlohmann::json::parse(first);
    entry["shard"] = 1;
  });
  const Audit found = audit();
  EXPECT_GT(found.duplicated, 0);
  EXPECT_GT(found.lost, 0);
  EXPECT_EQ(found.different, 1);
}

TEST_F(AuditTest, AChangedByteIsDamage) {
  std::string bytes = test::read_file(shard(0));
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  write(shard(0), bytes);
  EXPECT_EQ(audit().damaged, 1);
  EXPECT_EQ(audit_part(run_, *sums_).damaged, 1);
}

TEST_F(AuditTest, WhatIsLeftBehindIsCounted) {
  write(run_ / "shards/.shard-00000000.safetensors.tmp-1-2", "half");
  fs::create_directories(run_ / "leases/00000000");
  write(run_ / "leases/00000000/000000", "{}");
  write(run_ / "shards/notes.txt", "x");
  const Audit found = audit();
  EXPECT_EQ(found.leftovers, 2);
  EXPECT_THAT(found.wrong, Contains(HasSubstr("shards/notes.txt is no file of a run")));
}

TEST_F(AuditTest, AManifestThatNamesAShardTwiceOrNotAtAllIsSeen) {
  const std::string manifest = test::read_file(run_ / "manifest.jsonl");
  const std::string first = manifest.substr(0, manifest.find('\n') + 1);
  write(run_ / "manifest.jsonl", first + manifest);
  EXPECT_THAT(audit().wrong, Contains(HasSubstr("is in the manifest twice")));
  write(run_ / "manifest.jsonl", manifest.substr(first.size()));
  EXPECT_THAT(audit().wrong, Contains(HasSubstr("is not in manifest.jsonl")));
}

}  // namespace
}  // namespace espalier::torture
