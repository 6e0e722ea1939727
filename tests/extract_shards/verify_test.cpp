// SPDX-License-Identifier: Apache-2.0
// Runs that are right, and runs that are not: what verify and inspect say.
#include "espalier/extract/verify.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>

#include "espalier/extract/inspect.h"
#include "espalier/extract/plan_piece.h"
#include "espalier/extract/run_report.h"
#include "espalier/io/sha256.h"
#include "tests/extract_shards/made_run.h"
#include "tests/io/folder.h"
#include "tests/support/errors.h"

namespace espalier::extract {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::message;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class VerifyTest : public ::testing::TestWithParam<Compression> {
 protected:
  MadeRunOptions options() const {
    return {.longest = 150, .shard = {.compression = GetParam(), .threads = 2}};
  }
  void write(MadeRun& run) { run.write(*store_); }
  void change_byte(const std::string& key, int64_t from_end) {
    std::fstream file(folder_ / key, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(-from_end, std::ios::end);
    const int byte = file.get();
    file.seekp(-from_end, std::ios::end);
    file.put(static_cast<char>(byte ^ 0x55));
  }

  TestFolder folder_;
  std::unique_ptr<Store> store_ = open_folder_store(folder_.path());
};

INSTANTIATE_TEST_SUITE_P(, VerifyTest, ::testing::Values(Compression::none, Compression::zstd),
                         [](const auto& info) { return std::string(name(info.param)); });

TEST_P(VerifyTest, ARunThatIsRight) {
  MadeRun run(options());
  write(run);
  int64_t seen = 0, total = 0;
  const VerifyReport report =
      verify_run(*store_, {.threads = 2, .progress = [&](const ScanProgress& p) {
                             seen = std::max(seen, p.bytes);
                             total = p.total;
                           }});
  EXPECT_THAT(report.wrong, IsEmpty());
  EXPECT_THAT(report.damaged, IsEmpty());
  EXPECT_EQ(report.shards, run.shards());
  EXPECT_EQ(report.samples, 40);
  EXPECT_EQ(report.tokens, run.tokens());
  EXPECT_EQ(seen, total);
  EXPECT_EQ(total, report.bytes);
  EXPECT_THAT(verify_text(report), HasSubstr("every sample once, every checksum right"));
  EXPECT_TRUE(verify_json(report).at("pass").get<bool>());
}

TEST_P(VerifyTest, StatisticsAreThoseOfTheValues) {
  MadeRun run(options());
  // A token like an attention sink, and a channel that stands out besides the made one.
  run.value(1, 777, 5) = 5000.0f;
  write(run);
  const VerifyReport report = verify_run(*store_);
  ASSERT_EQ(report.hooks.size(), 2u);
  for (size_t hook = 0; hook < 2; ++hook) {
    double sum = 0.0, squares = 0.0, norms = 0.0, largest = 0.0;
    std::vector<double> all;
    for (int64_t t = 0; t < run.tokens(); ++t) {
      double norm = 0.0;
      for (int64_t c = 0; c < 24; ++c) {
        const double v = round_to(DType::bf16, static_cast<double>(run.value(hook, t, c)));
        sum += v;
        norm += v * v;
      }
      squares += norm;
      all.push_back(std::sqrt(norm));
      norms += all.back();
      largest = std::max(largest, all.back());
    }
    const auto tokens = static_cast<double>(run.tokens());
    const double mean = sum / (24 * tokens);
    const HookSummary& s = report.hooks[hook].summary;
    EXPECT_EQ(s.tokens, run.tokens());
    EXPECT_NEAR(s.mean, mean, 1e-5);
    EXPECT_NEAR(s.std, std::sqrt(squares / (24 * tokens) - mean * mean), 1e-4);
    EXPECT_NEAR(s.norm_mean, norms / tokens, 1e-4 * norms / tokens);
    EXPECT_NEAR(s.norm_max, largest, 1e-4 * largest);
    std::sort(all.begin(), all.end());
    EXPECT_NEAR(s.norm_median, all[all.size() / 2], 2e-3 * all[all.size() / 2]);
    ASSERT_GE(s.outlier_channels, 1);
  }
  EXPECT_EQ(report.hooks[0].summary.channels[0].index, 3);
  EXPECT_NEAR(report.hooks[0].summary.channels[0].value, 40.0, 2.0);
  EXPECT_EQ(report.hooks[0].summary.high_norm_tokens, 0);
  const HookReport& hook = report.hooks[1];
  EXPECT_EQ(hook.summary.high_norm_tokens, 1);
  EXPECT_EQ(hook.summary.outlier_channels, 2);
  EXPECT_EQ(hook.summary.channels[0].index, 5);
  ASSERT_EQ(hook.largest.size(), kKept);
  const TokenPlace& place = hook.largest[0].place;
  EXPECT_NEAR(hook.largest[0].norm, 5000.0, 20.0);
  EXPECT_EQ(run.first_token(place.sample) + place.position, 777);
  EXPECT_EQ(place.sample_id, fmt::format("task_{}", place.sample));
  EXPECT_EQ(
      place.token_id,
      run.samples()[static_cast<size_t>(place.sample)].tokens[static_cast<size_t>(place.position)]);
  EXPECT_THAT(verify_text(report),
              AllOf(HasSubstr("1 tokens above 10x the median norm, the largest in sample"),
                    HasSubstr("2 channels above 6x the median: 5 (")));
}

TEST_P(VerifyTest, DamageIsNamedNotedAndForgottenWhenRepaired) {
  MadeRun run(options());
  write(run);
  change_byte(shard_key(1), 5);
  fs::remove(folder_ / shard_key(0));
  fs::resize_file(folder_ / shard_key(3), 1000);
  change_byte(shard_key(4), static_cast<int64_t>(fs::file_size(folder_ / shard_key(4))) - 20);
  store_->put(manifest_key(5), "{}");
  const VerifyReport report = verify_run(*store_, {.threads = 2});
  const std::string all = fmt::format("{}", fmt::join(report.wrong, "\n"));
  EXPECT_THAT(all, HasSubstr("shard-00000000.safetensors is missing"));
  EXPECT_THAT(all, HasSubstr("shard-00000001.safetensors: its checksum is not the manifest's"));
  EXPECT_THAT(all, HasSubstr("shard-00000003.safetensors has 1000 bytes, the manifest "));
  EXPECT_THAT(all, HasSubstr("shard-00000004.safetensors: its checksum is not the manifest's"));
  EXPECT_THAT(all, HasSubstr("00000005.json has no \"shard\""));
  EXPECT_THAT(all, HasSubstr("manifest.jsonl is not what the 5 objects"));
  EXPECT_THAT(report.damaged, ElementsAre(0, 1, 3, 4, 5));
  EXPECT_EQ(damaged_shards(*store_), (std::set<int64_t>{0, 1, 3, 4, 5}));
  EXPECT_THAT(verify_text(report),
              AllOf(HasSubstr("5 damaged shards; the same extract command makes them again"),
                    HasSubstr("NOT as it should be")));
  EXPECT_THAT(message(ErrorKind::data, [&] { open_run(*store_); }), HasSubstr("5 shards of"));
  write(run);
  EXPECT_THAT(verify_run(*store_).wrong, IsEmpty());
  EXPECT_THAT(damaged_shards(*store_), IsEmpty());
}

TEST_P(VerifyTest, NotesAreLeftOnlyWhereWanted) {
  MadeRun run(options());
  write(run);
  change_byte(shard_key(1), 5);
  EXPECT_FALSE(verify_run(*store_, {.note_damage = false}).pass());
  EXPECT_THAT(damaged_shards(*store_), IsEmpty());
  // A note that is not true any more is taken back.
  note_damage(*store_, 2, "long ago");
  EXPECT_FALSE(verify_run(*store_).pass());
  EXPECT_EQ(damaged_shards(*store_), (std::set<int64_t>{1}));
}

TEST_P(VerifyTest, SamplesThatAreMissingOrTwice) {
  MadeRun run(options());
  write(run);
  store_->remove(manifest_key(2));
  ManifestEntry entry = parse_manifest_entry(store_->get(manifest_key(4), 4096).value(), "");
  entry.first_sample -= 1;
  store_->put(manifest_key(4), to_json(entry));
  store_->put("manifest/notes.txt", "x");
  store_->remove("manifest.jsonl");
  const VerifyReport report = verify_run(*store_);
  EXPECT_THAT(report.wrong,
              ElementsAre(HasSubstr("notes.txt is no object of a manifest"),
                          HasSubstr("shard 2 is not done"),
                          HasSubstr("shard 4 begins with sample 27, sample 28 was to come"),
                          HasSubstr("shard 5 begins with sample 35, sample 34 was to come"),
                          HasSubstr("the run is not complete"), HasSubstr("holds samples 28 + 7")));
  EXPECT_THAT(report.damaged, IsEmpty()) << "the file is what was written";
}

TEST_P(VerifyTest, LessThanWasPlanned) {
  MadeRun run(options());
  write(run);
  const std::string sum = io::sha256_hex(store_->get("run.json", 1 << 20).value());
  const auto plan = [&](int64_t shards, int64_t samples, const std::string& of) {
    store_->put("plan.json", to_json(PlanTotals{.shards = shards, .samples = samples}, of));
  };
  plan(6, 40, sum);
  EXPECT_THAT(verify_run(*store_).wrong, IsEmpty());
  plan(7, 44, sum);
  EXPECT_THAT(verify_run(*store_).wrong,
              ElementsAre(HasSubstr("plans 44 samples in 7 shards, the manifest has 40 in 6")));
  plan(6, 40, io::sha256_hex("another"));
  EXPECT_THAT(verify_run(*store_).wrong,
              ElementsAre(HasSubstr("plan.json belongs to another run.json")));
  store_->put("plan.json", R"({"shards": 6, "samples": 40})");
  EXPECT_THAT(verify_run(*store_).wrong, ElementsAre(HasSubstr("plan.json is damaged")));
}

TEST_P(VerifyTest, NanIsNamedByActivationAndSample) {
  MadeRunOptions o = options();
  o.shard.keep_not_finite = true;
  MadeRun run(o);
  run.value(1, run.first_token(9) + 2, 5) = std::numeric_limits<float>::quiet_NaN();
  run.value(1, run.first_token(9) + 2, 6) = std::numeric_limits<float>::infinity();
  write(run);
  const VerifyReport report = verify_run(*store_);
  EXPECT_THAT(report.wrong,
              ElementsAre(HasSubstr("shard-00000001.safetensors:resid_post.1: 2 values are NaN or "
                                    "infinite, the first in sample 9 (task_9) at position 2")));
  EXPECT_THAT(report.damaged, IsEmpty());
  EXPECT_EQ(report.not_finite, 2);
  EXPECT_EQ(report.hooks[1].summary.tokens, run.tokens() - 1);
  EXPECT_TRUE(std::isfinite(report.hooks[1].summary.std));
}

TEST_P(VerifyTest, StatisticsDoNotDependOnThreads) {
  MadeRun run(options());
  write(run);
  EXPECT_EQ(statistics_json(verify_run(*store_, {.threads = 1}).hooks),
            statistics_json(verify_run(*store_, {.threads = 3}).hooks));
}

TEST_P(VerifyTest, InspectSaysWhatIsThere) {
  MadeRun run(options());
  write(run);
  const InspectReport report = inspect_run(*store_, {.hooks = {"*.1"}});
  EXPECT_TRUE(report.index.complete);
  ASSERT_EQ(report.hooks.size(), 1u);
  EXPECT_EQ(report.hooks[0].name, "resid_post.1");
  EXPECT_EQ(report.hooks[0].summary.tokens, run.tokens());
  const auto json = inspect_json(report);
  EXPECT_EQ(json.at("dtype"), "bf16");
  EXPECT_EQ(json.at("shape").dump(), fmt::format("[{},24]", run.tokens()));
  EXPECT_EQ(json.at("run").at("batch_size"), 4);
  EXPECT_EQ(json.at("compression"), name(GetParam()));
  const double ratio = json.at("ratio").get<double>();
  EXPECT_TRUE(GetParam() == Compression::none ? ratio < 1.0 : ratio > 1.1) << ratio;
  EXPECT_THAT(inspect_text(report),
              AllOf(HasSubstr("complete: 6 shards, 40 samples"), HasSubstr("batch_size: 4"),
                    HasSubstr(fmt::format("1 activations [{}, 24] in bf16", run.tokens()))));
  EXPECT_THAT(message(ErrorKind::user, [&] { inspect_run(*store_, {.hooks = {"resid_pst.*"}}); }),
              HasSubstr("\"resid_pst.*\" is none of the run's 2 activations; nearest: resid_post"));

  store_->remove("manifest.jsonl");
  store_->remove(manifest_key(3));
  EXPECT_THAT(inspect_text(inspect_run(*store_)), HasSubstr("not complete yet: 3 shards, 21"));
  fs::resize_file(folder_ / shard_key(1), 10);
  EXPECT_THAT(message(ErrorKind::data, [&] { inspect_run(*store_); }),
              AllOf(HasSubstr("tokens can be read"), HasSubstr("has 10 bytes")));
}

TEST(Verify, WhatIsNoRunIsRefused) {
  const TestFolder folder;
  EXPECT_THAT(message(ErrorKind::user, [&] { verify_run(folder.path().string()); }),
              HasSubstr("run.json is missing: this is no run"));
  const auto store = open_folder_store(folder.path());
  EXPECT_THAT(error_of([&] { inspect_run(*store); }), HasSubstr("run.json is missing"));
  store->put("run.json", "{}");
  EXPECT_THAT(error_of([&] { inspect_run(*store); }), HasSubstr("has no shard that is done"));
}

}  // namespace
}  // namespace espalier::extract
