// SPDX-License-Identifier: Apache-2.0
// Extraction to object stores: the same objects as in a folder, byte for byte, whatever the network
// does.
#include <gmock/gmock.h>

#include <thread>

#include "espalier/extract/store.h"
#include "espalier/extract/verify.h"
#include "tests/extract/run_fixture.h"
#include "tests/support/environment.h"
#include "tests/support/errors.h"
#include "tests/support/fake_gcs.h"
#include "tests/support/fake_s3.h"

namespace espalier::extract {
namespace {

using test::Fault;
using ::testing::HasSubstr;

class ExtractToStores : public ExtractTest {
 protected:
  void SetUp() override {
    ExtractTest::SetUp();
    environment_.set("AWS_ACCESS_KEY_ID", s3_.options().access_key);
    environment_.set("AWS_SECRET_ACCESS_KEY", s3_.options().secret_key);
    environment_.set("AWS_ENDPOINT_URL_S3", s3_.server().url());
    environment_.set("AWS_REGION", s3_.options().region);
    for (const char* name : {"AWS_SESSION_TOKEN", "AWS_PROFILE"}) environment_.unset(name);
    environment_.set("STORAGE_EMULATOR_HOST", gcs_.server().authority());
  }

  ExtractOptions options_for(const std::string& url) const {
    ExtractOptions o = options("");
    o.output = url;
    return o;
  }

  /// Everything that a run left in a store.
  static std::map<std::string, std::string> objects_of(const std::string& url) {
    const auto store = open_store(url);
    std::map<std::string, std::string> objects;
    for (const std::string& key : store->list("")) {
      objects[key] = store->get(key, int64_t{1} << 30).value();
    }
    return objects;
  }

  /// A few requests fail, in one way after the other.
  static void disturb(test::WebServer& server) {
    int skip = 1;
    for (const Fault::Kind kind : {Fault::Kind::refuse, Fault::Kind::drop, Fault::Kind::lose_answer,
                                   Fault::Kind::cut_answer, Fault::Kind::refuse}) {
      server.add({.kind = kind, .skip = skip += 7, .answer = {.status = 503}});
    }
  }

  void check(const std::string& url, test::WebServer& server) {
    const ExtractOptions here = options("here"), there = options_for(url);
    const ExtractReport whole = run(here);
    ASSERT_TRUE(whole.complete);
    disturb(server);
    ExtractReport reports[2];
    std::thread other([&] { reports[1] = run(there); });
    reports[0] = run(there);
    other.join();
    EXPECT_TRUE(reports[0].complete && reports[1].complete);
    EXPECT_EQ(reports[0].made_shards + reports[1].made_shards, whole.plan.shards);
    EXPECT_TRUE(server.faults_done());
    const auto objects = objects_of(url), want = objects_of(here.output);
    EXPECT_GT(objects.size(), 8u);
    EXPECT_EQ(objects.size(), want.size());
    for (const auto& [key, bytes] : want) {
      EXPECT_TRUE(objects.contains(key) && objects.at(key) == bytes) << key;
    }
    const VerifyReport verified = verify_run(url);
    EXPECT_TRUE(verified.pass()) << fmt::format("{}", fmt::join(verified.wrong, "\n"));
    EXPECT_EQ(verified.samples, kSamples);
    const ExtractReport again = run(there);
    EXPECT_TRUE(again.complete);
    EXPECT_EQ(again.made_shards, 0);
    EXPECT_TRUE(objects_of(url) == objects);
  }

  test::FakeS3 s3_;
  test::FakeGcs gcs_{{.wants_token = false}};
  test::Environment environment_;
};

TEST_F(ExtractToStores, S3) { check("s3://bucket/runs/one", s3_.server()); }
TEST_F(ExtractToStores, Gcs) { check("gs://bucket/runs/one", gcs_.server()); }

// A dataset in a bucket is the dataset that it is a copy of, as one object or below a prefix.
TEST_F(ExtractToStores, DatasetsMayBeInStoresToo) {
  ExtractOptions o = options("run");
  const ExtractReport report = run(o);
  s3_.set("data/tokens.jsonl", [&] {
    std::ifstream file(folder_ / "tokens.jsonl");
    return std::string(std::istreambuf_iterator<char>(file), {});
  }());
  s3_.set("data/about.txt", "not read");
  o.source.files = {"s3://bucket/data/tokens.jsonl"};
  const ExtractReport same = run(o);
  EXPECT_TRUE(same.complete);
  EXPECT_EQ(same.made_shards, 0);
  const fs::path here = folder_ / "here";
  fs::create_directories(here);
  fs::copy(folder_ / "tokens.jsonl", here);
  ExtractOptions folder = options("folder");
  folder.source.files = {here};
  EXPECT_EQ(run(folder).plan.samples, report.plan.samples);
  folder.source.files = {"s3://bucket/data"};
  EXPECT_EQ(run(folder).made_shards, 0);
  o.source.files = {"s3://bucket/none.jsonl"};
  EXPECT_THAT(test::message(ErrorKind::user, [&] { run(o); }),
              HasSubstr("s3://bucket/none.jsonl is no object, and no .json or .jsonl file is"));
  o.source.files = {"http://x/y.jsonl"};
  EXPECT_THAT(test::message(ErrorKind::user, [&] { run(o); }),
              HasSubstr("http://x/y.jsonl: a dataset is a file or a folder here, or at s3://"));
  for (const auto& entry : fs::directory_iterator(fs::temp_directory_path())) {
    EXPECT_NE(entry.path().filename(), fmt::format(".espalier-dataset-{}", ::getpid()));
  }
}

TEST_F(ExtractToStores, DamageIsFoundAndMadeAgain) {
  const ExtractOptions o = options_for("s3://bucket/run");
  run(o);
  const std::string key = "run/" + shard_key(1), whole = s3_.objects().at(key);
  std::string damaged = whole;
  damaged[damaged.size() - 5] ^= 1;
  s3_.set(key, damaged);
  EXPECT_THAT(verify_run(o.output).damaged, ::testing::ElementsAre(1));
  EXPECT_EQ(run(o).made_shards, 1);
  EXPECT_TRUE(s3_.objects().at(key) == whole);
  EXPECT_TRUE(verify_run(o.output).pass());
}

TEST_F(ExtractToStores, AnotherRunAndAMissingBucketAreRefused) {
  ExtractOptions o = options_for("s3://bucket/run");
  run(o);
  o.batch.rows = 4;
  EXPECT_THAT(test::message(ErrorKind::user, [&] { run(o); }),
              HasSubstr("s3://bucket/run/run.json is of another run: batch_size is 3 there"));
  for (const char* url : {"s3://no-bucket/run", "gs://no-bucket/run"}) {
    o.output = url;
    EXPECT_THAT(test::message(ErrorKind::user, [&] { run(o); }),
                HasSubstr("there is no bucket no-bucket; make it, or correct the URL"));
  }
}

}  // namespace
}  // namespace espalier::extract
