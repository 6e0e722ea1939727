// SPDX-License-Identifier: Apache-2.0
// Extraction to an object store whose process dies at each call that changes the store, in turn,
// before the service has done what it was asked for: which is after it has done all that was asked
// before. Then the same command again.
#include <gtest/gtest.h>

#include <atomic>
#include <fstream>
#include <map>
#include <thread>

#include "espalier/extract/manifest.h"
#include "espalier/extract/store.h"
#include "tests/support/fake_gcs.h"
#include "tests/support/fake_s3.h"
#include "tests/support/program.h"

namespace espalier::extract {
namespace {

using test::Fault;
using test::Ran;
using test::WebRequest;
using Objects = std::map<std::string, std::string>;

class StoreCrash : public ::testing::TestWithParam<std::string> {
 protected:
  static constexpr int kSamples = 7, kLength = 500, kVocab = 603;
  /// Under attack leases need no renewal: the same calls every time.
  static constexpr const char* kNoRenewal = "60";

  void SetUp() override {
    const Ran made = test::run({"init", "qwen2", folder_ / "model", "--dtype", "float32",
                                "--num-layer", "2", "--vocab-size", std::to_string(kVocab)});
    ASSERT_EQ(made.code, 0) << made.err;
    std::ofstream data(folder_ / "data.jsonl");
    for (int sample = 0; sample < kSamples; ++sample) {
      data << R"({"tokens":[)" << sample;
      for (int i = 1; i < kLength; ++i) data << "," << (31 * i + sample) % kVocab;
      data << "]}\n";
    }
  }

  test::WebServer& server() { return GetParam() == "s3" ? s3_.server() : gcs_.server(); }
  /// Without the name of the run in front.
  Objects objects() {
    Objects objects;
    for (auto& [key, bytes] : GetParam() == "s3" ? s3_.objects() : gcs_.objects()) {
      if (key.starts_with(run_ + "/")) objects[key.substr(run_.size() + 1)] = bytes;
    }
    return objects;
  }

  /// The first shard is longer than a part of an upload, the second is sent by one call.
  std::unique_ptr<test::Process> start(const char* lease_seconds) const {
    const std::string scheme = GetParam() == "s3" ? "s3" : "gs";
    const std::vector<std::string> arguments{"extract",
                                             "--model",
                                             folder_ / "model",
                                             "--tokenizer",
                                             ESPALIER_SOURCE_DIR "/tests/goldens/tokenizers/qwen2",
                                             "--dataset",
                                             folder_ / "data.jsonl",
                                             "--activation",
                                             "*",
                                             "--store-dtype",
                                             "float32",
                                             "--max-seq-length",
                                             std::to_string(kLength),
                                             "--batch-size",
                                             "1",
                                             "--shard-tokens",
                                             std::to_string((kSamples - 1) * kLength),
                                             "--threads",
                                             "1",
                                             "--lease-seconds",
                                             lease_seconds,
                                             "--output",
                                             scheme + "://bucket/" + run_};
    return std::make_unique<test::Process>(
        arguments, 0,
        std::vector<std::string>{
            "AWS_ACCESS_KEY_ID=" + access_key_, "AWS_SECRET_ACCESS_KEY=" + secret_key_,
            "AWS_ENDPOINT_URL_S3=" + s3_url_, "AWS_REGION=" + region_,
            "AWS_SESSION_TOKEN=", "AWS_PROFILE=", "STORAGE_EMULATOR_HOST=" + gcs_authority_,
            "ESPALIER_CACHE_DIR=" + (folder_ / "cache")});
  }

  /// The process dies at the n-th call that changes the store. False: there are fewer.
  bool killed_at(int n) {
    struct Trap {
      std::atomic<pid_t> victim{0};  // 0: not known yet; -1: gone
      std::atomic<int> calls{0};
    };
    const auto trap = std::make_shared<Trap>();
    server().add({.kind = Fault::Kind::drop, .when = [trap, n](const WebRequest& request) {
                    const bool changes = request.method != "GET" && request.method != "HEAD";
                    if (!changes || trap->victim < 0 || trap->calls++ != n) return false;
                    while (trap->victim == 0) std::this_thread::yield();
                    if (trap->victim > 0) ::kill(trap->victim, SIGKILL);
                    return true;
                  }});
    const auto process = start(kNoRenewal);
    trap->victim = process->pid();
    const Ran ran = process->wait();
    trap->victim = -1;
    if (ran.code == 0) return false;
    EXPECT_EQ(ran.code, 128 + SIGKILL) << ran.err;
    return true;
  }

  /// What says that it is done is, and the same command makes the rest.
  void expect_recovery(const Objects& undisturbed, const std::string& what) {
    for (const auto& [key, bytes] : objects()) {
      const auto shard = shard_of_manifest_key(key);
      if (!shard) continue;
      EXPECT_TRUE(objects()[shard_key(*shard)] == undisturbed.at(shard_key(*shard))) << what;
    }
    const Ran ran = start("0.1")->wait();
    EXPECT_EQ(ran.code, 0) << what << ": " << ran.err;
    EXPECT_TRUE(objects() == undisturbed) << what;
    EXPECT_TRUE(s3_.open_uploads().empty()) << what;
  }

  test::Folder folder_;
  test::FakeS3 s3_{{.page = 100}};
  test::FakeGcs gcs_{{.page = 100, .wants_token = false}};
  const std::string access_key_ = s3_.options().access_key, secret_key_ = s3_.options().secret_key,
                    region_ = s3_.options().region, s3_url_ = s3_.server().url(),
                    gcs_authority_ = gcs_.server().authority();
  std::string run_ = "undisturbed";
};

TEST_P(StoreCrash, KilledAtEveryCallThatChangesTheStore) {
  ASSERT_EQ(start(kNoRenewal)->wait().code, 0);
  const Objects undisturbed = objects();
  ASSERT_TRUE(undisturbed.contains(shard_key(1)));
  ASSERT_GT(undisturbed.at(shard_key(0)).size(), size_t{8} << 20);
  ASSERT_LT(undisturbed.at(shard_key(1)).size(), size_t{8} << 20);
  int n = 0;
  for (bool died = true; died; ++n) {
    run_ = fmt::format("run-{}", n);
    died = killed_at(n);
    expect_recovery(undisturbed, fmt::format("killed at call {}", n));
  }
  printf("%d crash points\n", n - 1);
  EXPECT_GE(n - 1, 15);
}

INSTANTIATE_TEST_SUITE_P(Stores, StoreCrash, ::testing::Values("s3", "gcs"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace espalier::extract
