// SPDX-License-Identifier: Apache-2.0
// Plans of runs: what is in which shard, written by one worker and read by the others.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <random>
#include <set>

#include "espalier/extract/planner.h"
#include "espalier/extract/stored_plan.h"
#include "tests/support/errors.h"

namespace espalier::extract {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const fs::path kTokenizer = fs::path(ESPALIER_SOURCE_DIR) / "tests/goldens/tokenizers/qwen2";

class PlanTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(::testing::TempDir()) / fmt::format("espalier-plan-{}", ::getpid());
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    write_lines(2000);
    store_ = open_folder_store(folder_ / "run");
    source_.files = {folder_ / "text.jsonl"};
    source_.max_seq_length = 16;
    source_.length_policy = LengthPolicy::window;
  }
  void TearDown() override { fs::remove_all(folder_); }

  void write_lines(int lines) const {
    std::mt19937 random(9);
    std::ofstream file(folder_ / "text.jsonl");
    for (int i = 0; i < lines; ++i) {
      file << R"({"text": ")" << std::string(1 + random() % 50, 'a') << " b\"}\n";
    }
  }
  PlannerOptions planner() const {
    return {.source = source_,
            .tokenizer = tokenizer_,
            .vocab_size = tokenizer_.vocab_size(),
            .batch = {.batching = Batching::pack, .rows = 2, .seq = 16},
            .shard_tokens = 100};
  }
  StoredPlan plan() { return {*store_, {{"format", "test"}}}; }
  /// Plans into the store; stops before shard `stop`.
  bool run(StoredPlan& plan, int64_t stop = INT64_MAX) {
    const auto totals = make_plan(planner(), plan.resume_point(), times_,
                                  [&](const ShardWork& work, PlanTotals& so_far, bool resumable) {
                                    if (work.index >= stop) return false;
                                    ++made_;
                                    plan.add(work, so_far, resumable);
                                    return true;
                                  });
    if (totals) plan.complete(*totals);
    return totals.has_value();
  }
  std::map<std::string, std::string> objects() {
    std::map<std::string, std::string> all;
    for (const std::string& key : store_->list("plan"))
      all[key] = store_->get(key, 1 << 30).value();
    return all;
  }

  fs::path folder_;
  std::unique_ptr<Store> store_;
  SourceOptions source_;
  const text::Tokenizer tokenizer_ = text::Tokenizer::open(kTokenizer);
  StageTimes times_;
  int64_t made_ = 0;
};

TEST_F(PlanTest, EveryTokenHasItsPlace) {
  StoredPlan plan = this->plan();
  plan.begin();
  ASSERT_TRUE(run(plan));
  const PlanTotals totals = plan.totals().value();
  EXPECT_EQ(totals.position.lines, 2000);
  EXPECT_EQ(totals.shards, plan.known());
  int64_t samples = 0, tokens = 0, computed = 0;
  decltype(totals.batches) batches;  // shape to count
  for (int64_t shard = 0; shard < totals.shards; ++shard) {
    const ShardWork work = plan.load(shard);
    EXPECT_EQ(work.first_sample, samples);
    EXPECT_LE(work.tokens(), 100);
    samples += std::ssize(work.samples);
    tokens += work.tokens();
    std::vector<int> placed(work.samples.size());
    for (const Batch& batch : work.batches) {
      ++batches[{batch.rows, batch.seq}];
      computed += batch.rows * batch.seq;
      std::vector<int> used(static_cast<size_t>(batch.rows * batch.seq));
      for (const Placement& p : batch.placements) {
        ++placed[static_cast<size_t>(p.sample)];
        const auto length = std::ssize(work.samples[static_cast<size_t>(p.sample)].tokens);
        ASSERT_LE(p.column + length, batch.seq);
        for (int64_t i = 0; i < length; ++i) {
          EXPECT_EQ(used[static_cast<size_t>(p.row * batch.seq + p.column + i)]++, 0);
        }
      }
    }
    EXPECT_THAT(placed, ::testing::Each(1));
  }
  EXPECT_EQ(samples, totals.samples);
  EXPECT_EQ(tokens, totals.tokens);
  EXPECT_EQ(tokens, totals.lengths.tokens);
  EXPECT_EQ(totals.batches, batches);
  for (const auto& entry : batches) {
    const auto& shape = entry.first;
    EXPECT_TRUE((shape == std::pair<int64_t, int64_t>(2, 16)) || shape.first == 1);
  }
  EXPECT_EQ(totals.computed_tokens, computed);
  EXPECT_GT(static_cast<double>(tokens), 0.9 * static_cast<double>(totals.computed_tokens));
}

// Killed at any shard and taken up by another: the same objects, and little is done twice.
TEST_F(PlanTest, AnotherPlannerGoesOn) {
  StoredPlan whole = plan();
  whole.begin();
  ASSERT_TRUE(run(whole));
  const auto want = objects();
  const int64_t shards = whole.total().value();
  int64_t windows = 0;  // shards that planning can be resumed behind
  for (int64_t stop : {int64_t{0}, int64_t{1}, shards / 2, shards - 1, shards}) {
    fs::remove_all(folder_ / "run");
    StoredPlan first = plan();
    first.begin();
    EXPECT_EQ(run(first, stop), stop == shards);
    EXPECT_EQ(first.known(), stop);
    fs::remove(folder_ / "run/plan.json");
    made_ = 0;
    StoredPlan second = plan();
    EXPECT_EQ(second.known(), stop);
    const int64_t from = second.resume_point().shards;
    EXPECT_LE(from, stop);
    EXPECT_GT(from, stop - shards / 4) << "windows are shorter than that";
    windows += from > 0;
    ASSERT_TRUE(run(second));
    EXPECT_EQ(made_, shards - from);
    EXPECT_TRUE(objects() == want) << stop;
  }
  EXPECT_GE(windows, 3);
}

TEST_F(PlanTest, TwoPlannersMakeOnePlan) {
  StoredPlan first = plan(), second = plan();
  first.begin();
  ASSERT_TRUE(run(first));
  const auto want = objects();
  ASSERT_TRUE(run(second));
  EXPECT_TRUE(objects() == want);
}

TEST_F(PlanTest, ReadingOnGivesTheSameTasks) {
  const fs::path file = folder_ / "tasks.jsonl";
  {
    std::ofstream out(file);
    for (int i = 0; i < 9; ++i) {
      if (i == 3) out << "no task\n";
      out << R"({"train": [{"input": [[0,1]], "output": [[1]]}, {"input": [[2]], "output": [[3]]}],)"
          << R"( "test": [{"input": [[4,5]]}], "task_id": ")" << (i % 4 == 0 ? "same" : "own")
          << i / 5 << "\"}\n";
    }
  }
  source_ = {.files = {file}, .skip_bad_lines = true, .predictions_per_task = 3};
  std::vector<SourceLine> all;
  read_dataset(source_, 100, {}, times_, [&](SourceLine line) {
    all.push_back(std::move(line));
    return true;
  });
  ASSERT_EQ(all.size(), 10u);
  EXPECT_EQ(all.back().after.lines, 10);
  EXPECT_EQ(all.back().after.bad_lines, 1);
  EXPECT_THAT(all.back().after.first_bad_line, HasSubstr("tasks.jsonl line 4"));
  for (size_t from = 1; from < all.size(); ++from) {
    size_t at = from;
    read_dataset(source_, 100, all[from - 1].after, times_, [&](SourceLine line) {
      EXPECT_EQ(line.prompts.size(), all[at].prompts.size());
      for (size_t i = 0; i < line.prompts.size(); ++i) {
        EXPECT_EQ(line.prompts[i].id, all[at].prompts[i].id);
        EXPECT_EQ(line.prompts[i].augmentation, all[at].prompts[i].augmentation);
        EXPECT_EQ(line.prompts[i].text, all[at].prompts[i].text);
      }
      EXPECT_EQ(line.after.lines, all[at].after.lines);
      EXPECT_EQ(line.after.bad_lines, all[at].after.bad_lines);
      EXPECT_EQ(line.after.first_bad_line, all[at].after.first_bad_line);
      ++at;
      return true;
    });
    EXPECT_EQ(at, all.size());
  }
}

TEST_F(PlanTest, TasksOfOneNameAreToldApart) {
  const fs::path file = folder_ / "tasks.jsonl";
  const auto names_with = [&](const std::vector<std::string>& ids) {
    {
      std::ofstream out(file);
      for (const std::string& id : ids) {
        out << R"({"train": [{"input": [[0]], "output": [[1]]}], "test": [{"input": [[2]]}],)"
            << R"( "task_id": ")" << id << "\"}\n";
      }
    }
    source_ = {.files = {file}, .predictions_per_task = 1};
    std::vector<std::string> names;
    read_dataset(source_, 100, {}, times_, [&](SourceLine line) {
      for (const Prompt& prompt : line.prompts) names.push_back(prompt.id);
      return true;
    });
    return names;
  };
  const std::vector<std::string> two = names_with({"a", "a"});
  ASSERT_EQ(two.size(), 2u);
  EXPECT_EQ(two[0], "a/0/0");
  EXPECT_NE(two[1], two[0]);
  // A later task that has the name which the second one was given.
  const std::string given = two[1].substr(0, two[1].find('/'));
  const std::vector<std::string> three = names_with({"a", "a", given});
  ASSERT_EQ(three.size(), 3u);
  EXPECT_EQ(three[1], two[1]);
  EXPECT_EQ(std::set<std::string>(three.begin(), three.end()).size(), 3u);
}

TEST_F(PlanTest, WhatIsDamagedOrOfAnotherRunIsAnError) {
  StoredPlan plan = this->plan();
  EXPECT_EQ(plan.known(), 0);  // no run.json yet
  plan.begin();
  ASSERT_TRUE(run(plan));
  const std::string piece = store_->get(plan_key(1), 1 << 20).value();
  for (size_t at : {piece.size() - 3, piece.find("sample_ids") + 20, size_t{3}}) {
    std::string damaged = piece;
    damaged[at] ^= 4;
    store_->put(plan_key(1), damaged);
    EXPECT_NE(error_of([&] { plan.load(1); }), "no error") << at;
  }
  store_->put(plan_key(1), store_->get(plan_key(2), 1 << 20).value());
  EXPECT_THAT(error_of([&] { plan.load(1); }), HasSubstr("holds shard 2"));
  store_->remove(plan_key(1));
  EXPECT_THAT(error_of([&] { plan.load(1); }), HasSubstr("plan/00000001.safetensors is missing"));
  store_->put(plan_key(1), piece);
  EXPECT_EQ(plan.load(1).index, 1);

  StoredPlan other(*store_, {{"format", "other"}});
  EXPECT_THAT(test::message(ErrorKind::user, [&] { other.known(); }),
              HasSubstr("run.json is of another run: format is \"test\" there and \"other\" now"));
  fs::remove(folder_ / "run/run.json");
  other.begin();
  EXPECT_THAT(test::message(ErrorKind::data, [&] { other.totals(); }),
              HasSubstr("plan.json belongs to another run.json; remove plan.json and the folder"));
  fs::remove(folder_ / "run/plan.json");
  EXPECT_THAT(error_of([&] { other.load(0); }), HasSubstr("belongs to another run.json"));
  store_->put("plan.json", "{\"run\": 3}");
  EXPECT_THAT(error_of([&] { other.totals(); }), HasSubstr("plan.json is damaged"));
}

TEST_F(PlanTest, ADatasetWithoutSamplesIsAnError) {
  std::ofstream(folder_ / "text.jsonl") << "{\"text\": \"\"}\n";
  StoredPlan plan = this->plan();
  EXPECT_THAT(test::message(ErrorKind::data, [&] { run(plan); }),
              HasSubstr("the dataset holds no sample that can be run: 1 lines, 0 of them bad; 1 "
                        "samples: 0 whole, 1 empty"));
}

TEST_F(PlanTest, TokensBeyondTheModelAreAnError) {
  PlannerOptions options = planner();
  options.vocab_size = 3;
  EXPECT_THAT(error_of([&] {
                make_plan(options, {}, times_,
                          [](const ShardWork&, PlanTotals&, bool) { return true; });
              }),
              HasSubstr("the model's vocabulary ends at 3"));
}

}  // namespace
}  // namespace espalier::extract
