// SPDX-License-Identifier: Apache-2.0
// The parts that the extraction's pipeline is made of.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <optional>
#include <thread>

#include "espalier/extract/bounded_queue.h"
#include "espalier/extract/crew.h"
#include "espalier/extract/manifest.h"
#include "espalier/extract/shard_board.h"
#include "espalier/extract/stages.h"
#include "tests/support/errors.h"

namespace espalier::extract {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// ---- threads

TEST(BoundedQueue, HandsOverInOrderAndEndsWhenClosed) {
  BoundedQueue<int> queue(2);
  std::vector<int> got;
  std::thread reader([&] {
    while (const std::optional<int> value = queue.pop()) got.push_back(*value);
  });
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(queue.push(i));
  queue.close();
  reader.join();
  EXPECT_FALSE(queue.push(100));
  ASSERT_EQ(got.size(), 100u);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(got[static_cast<size_t>(i)], i);
}

TEST(Crew, TheFirstErrorEndsAll) {
  BoundedQueue<int> queue(1);
  Crew crew([&] { queue.close(); });
  crew.start([&] { queue.pop(); });  // for ever, but for the error
  crew.run([] { fail(ErrorKind::data, "test", "first"); });
  crew.run([] { fail(ErrorKind::data, "test", "second"); });
  crew.join();
  EXPECT_TRUE(crew.stopping());
  EXPECT_THAT(error_of([&] { crew.rethrow(); }), HasSubstr("first"));
}

TEST(Stages, TheLimitIsTheBusiestOfTheThreadsWithTheLeastSpareTime) {
  StageTimes times;
  using std::chrono::seconds;
  times.add(Stage::tokenize, seconds(5));
  times.add(Stage::compute, seconds(6));
  times.add(Stage::copy, seconds(1));
  times.add(Stage::write, seconds(9));  // of two threads
  const StageReport report = report_stages(times, 10.0, 1, 2);
  EXPECT_EQ(report.limit, "compute");
  EXPECT_EQ(report.stages.size(), static_cast<size_t>(kStages));
  times.add(Stage::write, seconds(9));
  EXPECT_EQ(report_stages(times, 10.0, 1, 2).limit, "write");
}

// ---- leases and shards

class BoardTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(::testing::TempDir()) / fmt::format("espalier-board-{}", ::getpid());
    fs::remove_all(folder_);
    store_ = open_folder_store(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  std::unique_ptr<LeaseKeeper> keeper(const std::string& name) {
    return std::make_unique<LeaseKeeper>(
        *store_, name, LeaseOptions{.expire_seconds = 60.0, .clock = [this] { return now_; }});
  }

  fs::path folder_;
  std::unique_ptr<Store> store_;
  double now_ = 5.0;
};

// A worker that is stopped (by the system, or its machine) for longer than its lease lasts.
TEST_F(BoardTest, APausedWorkerFindsItsLeaseLost) {
  const auto paused = keeper("a"), other = keeper("b");
  const auto lease = paused->claim("u");
  ASSERT_NE(lease, nullptr);
  EXPECT_EQ(other->claim("u"), nullptr);
  now_ += 50.0;
  paused->beat();
  EXPECT_EQ(other->claim("u"), nullptr);
  now_ += 61.0;  // no beat
  const auto taken = other->claim("u");
  ASSERT_NE(taken, nullptr);
  EXPECT_FALSE(lease->lost());  // it cannot know yet
  paused->beat();
  EXPECT_TRUE(lease->lost());
  paused->release(lease);
  other->beat();
  EXPECT_FALSE(taken->lost());
  EXPECT_EQ(store_->get("leases/u/000001", 100), "{\"worker\": \"b\", \"beat\": 1}\n");
}

// The unit was taken over, given back, and claimed by a third: its number is the paused one's.
TEST_F(BoardTest, ALeaseIsNotMistakenForAnotherOfTheSameNumber) {
  const auto paused = keeper("a"), other = keeper("b"), third = keeper("c");
  const auto lease = paused->claim("u");
  EXPECT_EQ(other->claim("u"), nullptr);
  now_ += 61.0;
  other->release(other->claim("u"));
  ASSERT_NE(third->claim("u"), nullptr);
  paused->beat();
  EXPECT_TRUE(lease->lost());
  EXPECT_EQ(store_->get("leases/u/000000", 100), "{\"worker\": \"c\", \"beat\": 0}\n");
}

TEST_F(BoardTest, WhatIsHeldAtTheEndIsGivenBack) {
  keeper("a")->claim("u");
  EXPECT_NE(keeper("b")->claim("u"), nullptr);
  EXPECT_THAT(error_of([&] { LeaseKeeper(*store_, "a", {.expire_seconds = 0.0, .clock = {}}); }),
              HasSubstr("the seconds after which a lease expires, 0, must be positive"));
}

TEST_F(BoardTest, WorkersStartWithShardsOfTheirOwn) {
  const auto a = keeper("a"), b = keeper("b");
  ShardBoard first(*store_, *a, {.rank = 0, .workers = 2}),
      second(*store_, *b, {.rank = 1, .workers = 2});
  std::vector<int64_t> of_a, of_b;
  for (int i = 0; i < 3; ++i) {
    of_a.push_back(first.claim(6).value().shard);
    of_b.push_back(second.claim(6).value().shard);
  }
  EXPECT_THAT(of_a, ElementsAre(0, 2, 4));
  EXPECT_THAT(of_b, ElementsAre(1, 3, 5));
  EXPECT_FALSE(first.claim(6));
}

TEST_F(BoardTest, ShardsAreMadeOnceWhoeverKnows) {
  const auto a = keeper("a"), b = keeper("b");
  ShardBoard first(*store_, *a, {}), second(*store_, *b, {});
  const auto claim = first.claim(3).value();
  EXPECT_EQ(second.claim(3).value().shard, 1);
  store_->create(manifest_key(0), "{}");
  store_->create(manifest_key(2), "{}");
  first.done(claim);
  EXPECT_EQ(first.done_count(), 1);
  EXPECT_FALSE(first.claim(3));  // 1 is another's, 2 is in the manifest
  EXPECT_FALSE(second.claim(3));
  EXPECT_FALSE(second.claim(3));  // with nothing left it looks for what others made
  EXPECT_EQ(first.done_count(), 2);
  EXPECT_EQ(second.done_count(), 2);
  EXPECT_EQ(first.claim(4).value().shard, 3);
}

TEST_F(BoardTest, ADroppedShardIsFreeForAll) {
  const auto a = keeper("a"), b = keeper("b");
  ShardBoard first(*store_, *a, {}), second(*store_, *b, {});
  const auto claim = first.claim(1).value();
  EXPECT_FALSE(second.claim(1));
  first.dropped(claim);
  EXPECT_EQ(ShardBoard(*store_, *b, {}).claim(1).value().shard, 0);
}

}  // namespace
}  // namespace espalier::extract
