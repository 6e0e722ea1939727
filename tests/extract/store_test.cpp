// SPDX-License-Identifier: Apache-2.0
// The folder store, and leases in it.
#include "espalier/extract/store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <thread>

#include "espalier/extract/lease.h"
#include "espalier/io/atomic.h"
#include "tests/support/errors.h"

namespace espalier::extract {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class StoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(::testing::TempDir()) / fmt::format("espalier-store-{}", ::getpid());
    fs::remove_all(folder_);
    store_ = open_folder_store(folder_ / "run");
  }
  void TearDown() override { fs::remove_all(folder_); }

  Leases worker(const std::string& name) {
    return {*store_, name, {.expire_seconds = 60.0, .clock = [this] { return now_; }}};
  }

  fs::path folder_;
  std::unique_ptr<Store> store_;
  double now_ = 1000.0;
};

TEST_F(StoreTest, ObjectsAreMadeOnceReplacedListedAndRemoved) {
  EXPECT_EQ(store_->get("a/b", 10), std::nullopt);
  EXPECT_TRUE(store_->create("a/b", "one"));
  EXPECT_FALSE(store_->create("a/b", "two"));
  EXPECT_EQ(store_->get("a/b", 10), "one");
  store_->put("a/b", "three");
  store_->put("a/c/d", "");
  store_->put("ab", "x");
  EXPECT_EQ(store_->get("a/b", 10), "three");
  EXPECT_THAT(store_->list(""), ElementsAre("a/b", "a/c/d", "ab"));
  EXPECT_THAT(store_->list("a/"), ElementsAre("a/b", "a/c/d"));
  EXPECT_THAT(store_->list("a"), ElementsAre("a/b", "a/c/d", "ab"));
  EXPECT_THAT(store_->list("a/c/"), ElementsAre("a/c/d"));
  EXPECT_THAT(store_->list("z/"), ElementsAre());
  store_->remove("a/b");
  store_->remove("a/b");
  EXPECT_EQ(store_->get("a/b", 10), std::nullopt);
}

TEST_F(StoreTest, AWriterWithoutCommitLeavesNothing) {
  const std::string_view text = "payload";
  {
    const auto writer = store_->writer("shards/one");
    writer->write(text);
  }
  EXPECT_THAT(store_->list(""), ElementsAre());
  EXPECT_TRUE(fs::is_empty(folder_ / "run/shards"));
  const auto writer = store_->writer("shards/one");
  writer->write(text);
  EXPECT_THAT(store_->list(""), ElementsAre());  // not yet
  writer->commit();
  EXPECT_EQ(store_->get("shards/one", 10), "payload");
}

TEST_F(StoreTest, WhatKilledWritersLeftIsSwept) {
  const auto leave = [&](const std::string& key) {
    if (::fork() == 0) {
      const auto writer = store_->writer(key);
      writer->write(std::string_view("half"));
      ::_exit(0);
    }
    ::wait(nullptr);
  };
  const auto hidden = [&] {
    std::vector<std::string> names;
    for (const auto& entry : fs::recursive_directory_iterator(folder_ / "run")) {
      if (entry.is_regular_file()) names.push_back(entry.path().filename().string());
    }
    std::sort(names.begin(), names.end());
    return names;
  };
  store_->put("shards/one", "whole");
  leave("shards/one");
  leave("shards/two");
  leave("top");
  EXPECT_EQ(hidden().size(), 4u);
  store_->sweep("shards/one");
  EXPECT_THAT(hidden(),
              ElementsAre(StartsWith(".top.tmp-"), StartsWith(".two.tmp-"), std::string("one")));
  const auto alive = store_->writer("shards/three");
  store_->sweep("");
  EXPECT_THAT(hidden(), ElementsAre("one"));
  EXPECT_THAT(error_of([&] { alive->commit(); }), HasSubstr("cannot rename"));
  EXPECT_EQ(store_->get("shards/three", 10), std::nullopt);
}

TEST_F(StoreTest, ASleeperWhoseFileWasSweptSeesTheOthersObject) {
  store_->put("other", "");  // makes the folder
  io::AtomicFile sleeper(folder_ / "run/key", {});
  EXPECT_TRUE(store_->create("key", "first"));
  store_->sweep("");
  EXPECT_FALSE(sleeper.commit_new());
  EXPECT_EQ(store_->get("key", 10), "first");
}

TEST_F(StoreTest, KeysThatLeaveTheFolderAndLongObjectsAreErrors) {
  for (const char* key : {"../x", "a/../../x", "/etc/x", ""}) {
    EXPECT_THAT(error_of([&] { store_->put(key, "x"); }),
                HasSubstr(fmt::format("\"{}\" is no key below", key)));
  }
  store_->put("long", "0123456789");
  EXPECT_THAT(error_of([&] { store_->get("long", 9); }), HasSubstr("long"));
}

TEST_F(StoreTest, PartsOfObjectsAreRead) {
  store_->put("a", "0123456789");
  EXPECT_EQ(store_->size("a"), 10);
  EXPECT_EQ(store_->size("b"), std::nullopt);
  EXPECT_EQ(store_->file("a"), folder_ / "run/a");
  std::string part(4, ' ');
  const auto bytes = std::as_writable_bytes(std::span(part));
  store_->read("a", 6, bytes);
  EXPECT_EQ(part, "6789");
  store_->read("a", 10, bytes.first(0));
  EXPECT_THAT(error_of([&] { store_->read("a", 7, bytes); }),
              HasSubstr("ends at 10, before 7 + 4"));
  EXPECT_THAT(error_of([&] { store_->read("b", 0, bytes); }), HasSubstr("b is missing"));
}

TEST_F(StoreTest, OpeningMakesNothing) {
  const auto store = open_store((folder_ / "later").string());
  EXPECT_THAT(store->list(""), ElementsAre());
  EXPECT_FALSE(fs::exists(folder_ / "later"));
  store->put("a", "x");
  EXPECT_TRUE(fs::exists(folder_ / "later/a"));
}

TEST_F(StoreTest, AFolderThatCannotBeMadeIsAnError) {
  fs::create_directories(folder_);
  std::ofstream(folder_ / "file") << "x";
  const auto store = open_folder_store(folder_ / "file/run");
  EXPECT_THAT(error_of([&] { store->put("key", "x"); }), HasSubstr("file"));
}

TEST_F(StoreTest, OfManyProcessesOneCreates) {
  constexpr int kProcesses = 8, kKeys = 20;
  for (int p = 0; p < kProcesses; ++p) {
    if (::fork() != 0) continue;
    const auto store = open_folder_store(folder_ / "run");
    for (int k = 0; k < kKeys; ++k) {
      if (store->create(fmt::format("key-{}", k), std::to_string(p))) {
        store->create(fmt::format("won-{}-by-{}", k, p), "");
      }
    }
    ::_exit(0);
  }
  for (int p = 0; p < kProcesses; ++p) ASSERT_GT(::wait(nullptr), 0);
  EXPECT_EQ(store_->list("key-").size(), static_cast<size_t>(kKeys));
  EXPECT_EQ(store_->list("won-").size(), static_cast<size_t>(kKeys));
  for (int k = 0; k < kKeys; ++k) {
    const std::string owner = store_->get(fmt::format("key-{}", k), 10).value();
    EXPECT_TRUE(store_->get(fmt::format("won-{}-by-{}", k, owner), 10)) << k;
  }
}

TEST_F(StoreTest, OneWorkerHasAUnit) {
  Leases a = worker("a"), b = worker("b");
  std::optional<Lease> lease = a.claim("shard-7");
  ASSERT_TRUE(lease);
  EXPECT_FALSE(b.claim("shard-7"));
  EXPECT_FALSE(a.claim("shard-7"));
  EXPECT_TRUE(b.claim("shard-8"));
  EXPECT_EQ(store_->get("leases/shard-7/000000", 100), "{\"worker\": \"a\", \"beat\": 0}\n");
  a.release(*lease);
  EXPECT_THAT(store_->list("leases/shard-7/"), ElementsAre());
  EXPECT_TRUE(b.claim("shard-7"));
}

TEST_F(StoreTest, ASilentWorkersUnitIsTakenOver) {
  Leases a = worker("a"), b = worker("b"), c = worker("c");
  std::optional<Lease> lease = a.claim("u");
  EXPECT_FALSE(b.claim("u"));  // first look
  EXPECT_FALSE(c.claim("u"));
  now_ += 59.0;
  EXPECT_FALSE(b.claim("u"));
  now_ += 2.0;
  EXPECT_TRUE(b.claim("u"));
  EXPECT_FALSE(c.claim("u"));     // sees a newer generation
  EXPECT_FALSE(a.renew(*lease));  // woke up too late
  a.release(*lease);
  EXPECT_THAT(store_->list("leases/u/"), ElementsAre("leases/u/000001"));
}

TEST_F(StoreTest, ABeatKeepsAUnit) {
  Leases a = worker("a"), b = worker("b");
  Lease lease = a.claim("u").value();
  for (int i = 0; i < 5; ++i) {
    now_ += 40.0;
    EXPECT_FALSE(b.claim("u"));
    EXPECT_TRUE(a.renew(lease));
  }
}

// The old owner's clock, and the time of day, play no part: only how long b itself has waited.
TEST_F(StoreTest, AClockThatJumpsStealsNothing) {
  Leases a = worker("a");
  a.claim("u");
  now_ += 1e9;
  Leases b = worker("b");
  EXPECT_FALSE(b.claim("u"));
  now_ += 30.0;
  EXPECT_FALSE(b.claim("u"));
}

TEST_F(StoreTest, OfManyThatTakeOverOneSucceeds) {
  worker("dead").claim("u");
  std::vector<Leases> workers;
  for (int i = 0; i < 8; ++i) workers.push_back(worker(std::to_string(i)));
  for (Leases& w : workers) EXPECT_FALSE(w.claim("u"));
  now_ += 61.0;
  std::atomic<int> won{0};
  std::vector<std::thread> threads;
  for (Leases& w : workers) {
    threads.emplace_back([&won, &w] { won += w.claim("u").has_value(); });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(won, 1);
}

}  // namespace
}  // namespace espalier::extract
