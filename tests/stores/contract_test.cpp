// SPDX-License-Identifier: Apache-2.0
// What every store promises, whatever it is made of.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "espalier/extract/lease.h"
#include "tests/stores/cases.h"
#include "tests/support/errors.h"

namespace espalier::extract {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct World {
  virtual ~World() = default;
  /// A store as another process would open it.
  virtual std::unique_ptr<Store> open() = 0;
  virtual size_t open_uploads() { return 0; }
  std::string root;
};

struct FolderWorld final : World {
  fs::path folder = fs::path(::testing::TempDir()) / fmt::format("espalier-stores-{}", ::getpid());
  FolderWorld() {
    fs::remove_all(folder);
    root = (folder / "run").string() + "/";
  }
  ~FolderWorld() override { fs::remove_all(folder); }
  std::unique_ptr<Store> open() override { return open_store((folder / "run").string()); }
};

struct S3World final : World {
  test::FakeS3 s3;
  test::Patience patience;
  S3World() { root = "s3://bucket/a run/x/"; }
  std::unique_ptr<Store> open() override {
    return open_s3_store(test::s3_options(s3, patience), "a run/x");
  }
  size_t open_uploads() override { return s3.open_uploads().size(); }
};

struct GcsWorld final : World {
  test::FakeGcs gcs;
  test::Patience patience;
  GcsWorld() { root = "gs://bucket/a run/x/"; }
  std::unique_ptr<Store> open() override {
    return open_gcs_store(test::gcs_options(gcs, patience), "a run/x");
  }
  size_t open_uploads() override { return gcs.open_uploads(); }
};

class Contract : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (GetParam() == "folder") world_ = std::make_unique<FolderWorld>();
    if (GetParam() == "s3") world_ = std::make_unique<S3World>();
    if (GetParam() == "gcs") world_ = std::make_unique<GcsWorld>();
    store_ = world_->open();
  }

  std::unique_ptr<World> world_;
  std::unique_ptr<Store> store_;
};

TEST_P(Contract, AnObjectThatComesAndGoesIsWholeOrNotThere) {
  constexpr int kTimes = 300;
  std::atomic<bool> over = false;
  std::jthread other([&] {
    const auto store = world_->open();
    for (int i = 0; i < kTimes; ++i) {
      store->put("leases/1", "mine");
      store->remove("leases/1");
    }
    over = true;
  });
  while (!over) EXPECT_THAT(store_->get("leases/1", 100).value_or("mine"), "mine");
}

TEST_P(Contract, ObjectsAreMadeOnceReplacedAndRemoved) {
  EXPECT_EQ(store_->get("a/b", 10), std::nullopt);
  EXPECT_TRUE(store_->create("a/b", "one"));
  EXPECT_FALSE(store_->create("a/b", "two"));
  EXPECT_FALSE(store_->create("a/b", "one"));
  EXPECT_EQ(store_->get("a/b", 10), "one");
  store_->put("a/b", "three");
  EXPECT_EQ(store_->get("a/b", 10), "three");
  EXPECT_EQ(world_->open()->get("a/b", 10), "three");
  store_->remove("a/b");
  store_->remove("a/b");
  EXPECT_EQ(store_->get("a/b", 10), std::nullopt);
  EXPECT_TRUE(store_->create("a/b", std::string("\0\xFF\r\n--", 6)));
  EXPECT_EQ(store_->get("a/b", 10), std::string("\0\xFF\r\n--", 6));
}

TEST_P(Contract, ListsAreSortedAndWhole) {
  EXPECT_THAT(store_->list(""), ElementsAre());
  for (const char* key : {"b/2", "a/b", "ab", "b/10", "b/1", "b/c/d", "b/3", "a b+c&<d>%41"}) {
    store_->put(key, "");
  }
  EXPECT_THAT(store_->list(""),
              ElementsAre("a b+c&<d>%41", "a/b", "ab", "b/1", "b/10", "b/2", "b/3", "b/c/d"));
  EXPECT_THAT(store_->list("b/"), ElementsAre("b/1", "b/10", "b/2", "b/3", "b/c/d"));
  EXPECT_THAT(store_->list("b/1"), ElementsAre("b/1", "b/10"));
  EXPECT_THAT(store_->list("z/"), ElementsAre());
  EXPECT_EQ(store_->get("a b+c&<d>%41", 1), "");
}

TEST_P(Contract, PartsOfObjectsAreRead) {
  store_->put("a", "0123456789");
  EXPECT_EQ(store_->size("a"), 10);
  EXPECT_EQ(store_->size("b"), std::nullopt);
  std::string part(4, ' ');
  const auto bytes = std::as_writable_bytes(std::span(part));
  store_->read("a", 6, bytes);
  EXPECT_EQ(part, "6789");
  store_->read("a", 10, bytes.first(0));
  EXPECT_THAT(test::message(ErrorKind::data, [&] { store_->read("a", 7, bytes); }),
              HasSubstr("a ends at 10, before 7 + 4"));
  EXPECT_THAT(test::message(ErrorKind::data, [&] { store_->read("a", 10, bytes); }),
              HasSubstr("a ends at 10, before 10 + 4"));
  EXPECT_THAT(test::message(ErrorKind::data, [&] { store_->read("b", 0, bytes); }),
              HasSubstr("b is missing"));
}

TEST_P(Contract, WhatIsTooLongOrNoKeyIsAnError) {
  store_->put("long", "0123456789");
  EXPECT_EQ(store_->get("long", 10), "0123456789");
  EXPECT_THAT(test::message(ErrorKind::data, [&] { store_->get("long", 9); }), HasSubstr("long"));
  for (const char* key : {"../x", "a/../../x", "/etc/x", "", "a//b", "a/./b", "a/"}) {
    EXPECT_THAT(test::message(ErrorKind::user, [&] { store_->put(key, "x"); }),
                HasSubstr(fmt::format("\"{}\" is no key below", key)));
  }
  EXPECT_EQ(store_->where("a/b"), world_->root + "a/b");
}

TEST_P(Contract, WritersMakeObjectsOfAnySize) {
  // One call, several parts, and both sides of the border between them.
  const size_t part = GetParam() == "gcs" ? size_t{256} << 10 : 4096;
  for (const size_t size :
       {size_t{0}, size_t{1}, part - 1, part, part + 1, 3 * part, 3 * part + 5, 8 * part + 100}) {
    const std::string bytes = test::noise(size, static_cast<unsigned>(size));
    test::write_object(*store_, "shards/one", bytes);  // in the place of the one before
    EXPECT_EQ(store_->size("shards/one"), static_cast<int64_t>(size));
    EXPECT_TRUE(store_->get("shards/one", static_cast<int64_t>(size)) == bytes) << size;
  }
  EXPECT_THAT(store_->list(""), ElementsAre("shards/one"));
  EXPECT_EQ(world_->open_uploads(), 0u);
}

TEST_P(Contract, AWriterWithoutCommitLeavesNothing) {
  for (const size_t size : {size_t{10}, size_t{700'000}}) {
    const auto writer = store_->writer("shards/one");
    writer->write(test::noise(size));
    EXPECT_THAT(store_->list(""), ElementsAre());
  }
  EXPECT_THAT(store_->list(""), ElementsAre());
  EXPECT_EQ(world_->open_uploads(), 0u);
}

TEST_P(Contract, OfManyThatCreateOneSucceeds) {
  constexpr int kWorkers = 8, kKeys = 5;
  std::atomic<int> won{0};
  std::vector<std::thread> workers;
  for (int w = 0; w < kWorkers; ++w) {
    workers.emplace_back([&, w] {
      const auto store = world_->open();
      for (int k = 0; k < kKeys; ++k) {
        if (!store->create(fmt::format("key-{}", k), std::to_string(w))) continue;
        ++won;
        EXPECT_EQ(store->get(fmt::format("key-{}", k), 10), std::to_string(w));
      }
    });
  }
  for (std::thread& worker : workers) worker.join();
  EXPECT_EQ(won, kKeys);
}

TEST_P(Contract, OneStoreServesManyThreads) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 6; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 5; ++i) {
        const std::string key = fmt::format("{}/{}", t, i),
                          bytes = test::noise(9000, static_cast<unsigned>(10 * t + i));
        test::write_object(*store_, key, bytes);
        EXPECT_TRUE(store_->get(key, 9000) == bytes);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(store_->list("").size(), 30u);
}

TEST_P(Contract, LeasesWork) {
  double now = 0.0;
  const auto worker = [&](const std::string& name) {
    return Leases(*store_, name, {.expire_seconds = 60.0, .clock = [&now] { return now; }});
  };
  Leases a = worker("a"), b = worker("b");
  std::optional<Lease> lease = a.claim("u");
  ASSERT_TRUE(lease);
  EXPECT_FALSE(b.claim("u"));
  now = 40.0;
  EXPECT_TRUE(a.renew(*lease));
  EXPECT_FALSE(b.claim("u"));
  now = 101.0;
  EXPECT_TRUE(b.claim("u"));
  EXPECT_FALSE(a.renew(*lease));
  a.release(*lease);
  EXPECT_THAT(store_->list("leases/"), ElementsAre("leases/u/000001"));
}

INSTANTIATE_TEST_SUITE_P(Stores, Contract, ::testing::Values("folder", "s3", "gcs"),
                         [](const auto& info) { return info.param; });

TEST(OpenStore, TakesFoldersAndTheUrlsItKnows) {
  const auto refused = [](const std::string& url) {
    return test::message(ErrorKind::user, [&] { open_store(url); });
  };
  EXPECT_THAT(refused("http://x/y"), HasSubstr("kept in a folder, s3://bucket/prefix or gs://"));
  EXPECT_THAT(refused("s3:///y"), HasSubstr("\"\" is no name of a bucket"));
  EXPECT_THAT(refused("s3://Bucket/y"), HasSubstr("\"Bucket\" is no name of a bucket"));
  EXPECT_THAT(refused("gs://bucket/a//b"), HasSubstr("\"a//b\" is no key below gs://bucket"));
}

}  // namespace
}  // namespace espalier::extract
