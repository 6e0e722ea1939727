// SPDX-License-Identifier: Apache-2.0
// Extraction whose process dies, or whose system call fails, at each call in turn; then the same
// command again.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <set>
#include <sstream>

#include "espalier/extract/job.h"
#include "tests/io/folder.h"
#include "tests/syscalls/crash.h"
#include "tests/torture/audit.h"

namespace espalier::extract {
namespace {

namespace fs = std::filesystem;

/// Does every file get its name after its last byte was flushed, and is a shard's name flushed
/// before its manifest's object gets one, and those before manifest.jsonl?
bool check_order(const std::vector<std::string>& log) {
  std::map<std::string, bool> flushed;  // file -> nothing was written since
  std::map<std::string, bool> durable;  // "shards", "manifest" -> no name since the last flush
  std::set<std::string> named;
  for (const std::string& entry : log) {
    std::istringstream words(entry);
    std::string call, what, name;
    words >> call >> what >> name;
    if (call == "write") flushed[what] = false;
    if (call == "fsync") flushed[what] = durable[what] = true;
    if (call != "rename" && call != "link") continue;
    bool right = flushed[what];
    if (name.starts_with("shard-")) durable["shards"] = false;
    if (name.size() == 13 && name.ends_with(".json")) {
      right = right && durable["shards"] &&
              named.contains("shard-" + name.substr(0, 8) + ".safetensors");
      durable["manifest"] = false;
    }
    if (name == "manifest.jsonl") right = right && durable["manifest"];
    named.insert(name);
    if (right) continue;
    fprintf(stderr, "too early: %s\n", entry.c_str());
    return false;
  }
  return named.contains("manifest.jsonl") && named.contains("00000001.json");
}

/// A run of a few shards; everything that extracts is a child process.
class ExtractCrash : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TestFolder(quick_place());
    inputs_ = new torture::Inputs(torture::make_inputs(folder_->path(), 2, 5));
    ASSERT_EQ(in_child([] { return extract("undisturbed"); }), 0);
    sums_ = new torture::Checksums(torture::shard_checksums(*folder_ / "undisturbed"));
    ASSERT_GE(sums_->size(), 2u);
  }
  /// In memory where there is such a place: processes die here, not machines, so flushing proves
  /// nothing and takes most of the time.
  static fs::path quick_place() {
    const fs::path memory = "/dev/shm";
    return ::access(memory.c_str(), W_OK) == 0 ? memory : fs::path(::testing::TempDir());
  }
  static void TearDownTestSuite() {
    delete sums_;
    delete inputs_;
    delete folder_;
  }

  /// Under attack a worker has leases that need no renewal: the same calls every time. Who comes
  /// after it waits no longer than the default here.
  static constexpr double kNoRenewal = 60.0;

  static int extract(const std::string& output, double lease_seconds = 0.02) {
    ::alarm(120);  // the signal ends a child that hangs
    ExtractOptions o;
    o.model = inputs_->model;
    o.tokenizer = inputs_->tokenizer;
    o.output = *folder_ / output;
    o.source.files = inputs_->files;
    o.source.max_seq_length = 512;
    o.source.length_policy = LengthPolicy::window;
    o.source.predictions_per_task = 2;
    o.batch.rows = 2;
    o.activation = "residual,mlp";
    o.store_dtype = DType::f32;
    o.shard_tokens = 1500;
    o.lease_seconds = lease_seconds;
    o.compile.threads = 1;
    o.compile.cache_dir = *folder_ / "cache";  // filled by the undisturbed run
    return run_extract(o, {}).complete ? 0 : 1;
  }
  static fs::path run() { return *folder_ / "run"; }

  /// What is there is right, and the same command makes the rest.
  static void expect_recovery(const std::string& what) {
    if (fs::exists(run())) expect_pass(torture::audit_part(run(), *sums_), what);
    EXPECT_EQ(in_child([] { return extract("run"); }), 0) << what;
    expect_pass(torture::audit_run(run(), inputs_->samples, *sums_), what);
  }
  static void expect_pass(const torture::Audit& audit, const std::string& what) {
    EXPECT_TRUE(audit.pass()) << what << "\n" << fmt::format("{}", fmt::join(audit.wrong, "\n"));
  }

  inline static TestFolder* folder_ = nullptr;
  inline static torture::Inputs* inputs_ = nullptr;
  inline static torture::Checksums* sums_ = nullptr;
};

TEST_F(ExtractCrash, KilledBeforeEverySystemCall) {
  const int points =
      crash_everywhere([] { fs::remove_all(run()); }, [] { extract("run", kNoRenewal); },
                       [](int n) { expect_recovery(fmt::format("killed at call {}", n)); });
  EXPECT_GE(points, 40);
  printf("%d crash points\n", points);
}

// What a full or broken disk says reaches the user; nothing that was done is lost.
TEST_F(ExtractCrash, EveryFailingCallIsAnErrorAndLosesNothing) {
  enum { kDone, kError, kNoSuchCall, kWrongError };
  std::map<int, int> count;
  for (int n = 0; count[kNoSuchCall] == 0; ++n) {
    const int error = n % 2 == 0 ? ENOSPC : EIO;
    fs::remove_all(run());
    const int code = in_child([&] {
      const Interception interception([&](const std::string&, int ordinal) {
        return ordinal == n ? Fault{Fault::fail, error} : Fault{};
      });
      try {
        extract("run", kNoRenewal);
      } catch (const Error& caught) {
        const std::string_view text = caught.what();
        const bool right = caught.kind() == ErrorKind::device &&
                           text.starts_with("[store] cannot ") &&
                           text.find(std::strerror(error)) != text.npos &&
                           text.ends_with("the run continues from there with the same command");
        if (right) return kError;
        fprintf(stderr, "%s\n", caught.what());
        return kWrongError;
      }
      return static_cast<int>(interception.log().size()) > n ? kDone : kNoSuchCall;
    });
    ++count[code];
    EXPECT_TRUE(code == kDone || code == kError || code == kNoSuchCall) << code << " at call " << n;
    expect_recovery(fmt::format("{} at call {}", std::strerror(error), n));
  }
  printf("%d calls failed the run, %d were not needed\n", count[kError], count[kDone]);
  EXPECT_GE(count[kError], 40);
}

TEST_F(ExtractCrash, ShortWritesAndSignalsChangeNothing) {
  fs::remove_all(run());
  EXPECT_EQ(in_child([] {
              int disturbed = 0;
              const Interception interception([&](const std::string& call, int ordinal) {
                if (call == "write" && ordinal % 3 != 0) {
                  return ++disturbed, Fault{Fault::short_write};
                }
                const bool interruptible = call == "write" || call == "fsync" || call == "open";
                if (interruptible && ordinal % 3 == 0) {
                  return ++disturbed, Fault{Fault::fail, EINTR};
                }
                return Fault{};
              });
              return extract("run") == 0 && disturbed > 20 ? 0 : 1;
            }),
            0);
  expect_pass(torture::audit_run(run(), inputs_->samples, *sums_), "disturbed");
}

// A power failure may undo what was not flushed: so contents before the name, the name before the
// manifest's object that says the shard is done.
TEST_F(ExtractCrash, EverythingIsFlushedBeforeItCounts) {
  fs::remove_all(run());
  EXPECT_EQ(in_child([] {
              const Interception interception([](const std::string&, int) { return Fault{}; });
              extract("run");
              return check_order(interception.log()) ? 0 : 1;
            }),
            0);
}

}  // namespace
}  // namespace espalier::extract
