// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/verify.h"

#include <algorithm>
#include <chrono>
#include <optional>

#include "espalier/base/error.h"
#include "espalier/extract/run_index.h"
#include "espalier/extract/stored_plan.h"
#include "espalier/io/sha256.h"

namespace espalier::extract {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int64_t kEntryLimit = 4096;
constexpr int64_t kAllLimit = int64_t{4} << 30;

class Verification {
 public:
  Verification(Store& store, const VerifyOptions& options) : store_(store), o_(options) {}

  VerifyReport run() {
    const auto start = Clock::now();
    const std::string run = io::sha256_hex(run_settings(store_));
    read_objects();
    check_order();
    check_all();
    check_plan(run);
    RunScan scan = scan_run(store_, entries_, {.threads = o_.threads, .progress = o_.progress});
    report_.wrong.insert(report_.wrong.end(), scan.wrong.begin(), scan.wrong.end());
    report_.damaged.insert(report_.damaged.end(), scan.damaged.begin(), scan.damaged.end());
    std::sort(report_.damaged.begin(), report_.damaged.end());
    report_.hooks = std::move(scan.hooks);
    for (const HookReport& hook : report_.hooks) report_.not_finite += hook.summary.not_finite;
    if (o_.note_damage) note();
    report_.seconds = std::chrono::duration<double>(Clock::now() - start).count();
    return std::move(report_);
  }

 private:
  void say(std::string line) { report_.wrong.push_back(std::move(line)); }

  /// The manifest's objects, which a run has one of for each shard that is done.
  void read_objects() {
    for (const std::string& key : store_.list("manifest/")) {
      const std::optional<int64_t> shard = shard_of_manifest_key(key);
      if (!shard) {
        say(fmt::format("{} is no object of a manifest", store_.where(key)));
        continue;
      }
      const std::string text = store_.get(key, kEntryLimit).value_or("");
      texts_ += text;
      const bool right = look([&] {
        ManifestEntry entry = parse_manifest_entry(text, store_.where(key));
        ESPALIER_CHECK(entry.shard == *shard, ErrorKind::data, "manifest", "{} is of shard {}",
                       store_.where(key), entry.shard);
        entries_.push_back(std::move(entry));
      });
      if (!right) report_.damaged.push_back(*shard);
    }
    for (const ManifestEntry& entry : entries_) {
      report_.samples += entry.samples;
      report_.tokens += entry.tokens;
      report_.bytes += entry.bytes;
      report_.raw_bytes += entry.raw_bytes;
    }
    report_.shards = std::ssize(entries_);
  }

  /// False when what is read is wrong, which is then said.
  template <typename Read>
  bool look(const Read& read) {
    try {
      read();
      return true;
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::data) throw;
      say(error.what());
      return false;
    }
  }

  /// Every sample exactly once: each shard begins where the one before ends.
  void check_order() {
    int64_t due = 0;  // the sample that the next shard begins with
    bool known = true;
    int64_t shard = 0;
    for (const ManifestEntry& entry : entries_) {
      for (; shard < entry.shard; ++shard) {
        const bool said = std::find(report_.damaged.begin(), report_.damaged.end(), shard) !=
                          report_.damaged.end();
        if (!said) {
          say(fmt::format("shard {} is not done: {} is missing", shard,
                          store_.where(manifest_key(shard))));
        }
        known = false;  // where the next one begins cannot be told
      }
      if (known && entry.first_sample != due) {
        say(fmt::format("{}: shard {} begins with sample {}, sample {} was to come",
                        store_.where(manifest_key(shard)), shard, entry.first_sample, due));
      }
      due = entry.first_sample + entry.samples;
      known = true;
      ++shard;
    }
  }

  void check_all() {
    const std::string where = store_.where("manifest.jsonl");
    const std::optional<std::string> all = store_.get("manifest.jsonl", kAllLimit);
    if (!all) {
      say(fmt::format("the run is not complete: {} is missing", where));
    } else if (*all != texts_) {
      say(fmt::format("{} is not what the {} objects of the manifest say", where, report_.shards));
    }
  }

  /// What was planned is what is there. A run that died while planning has no summary of its plan.
  void check_plan(std::string_view run) {
    look([&] {
      const std::optional<PlanTotals> plan = stored_totals(store_, run);
      if (!plan || (plan->shards == report_.shards && plan->samples == report_.samples)) return;
      say(fmt::format("{} plans {} samples in {} shards, the manifest has {} in {}",
                      store_.where(kPlanSummaryKey), plan->samples, plan->shards, report_.samples,
                      report_.shards));
    });
  }

  void note() {
    const std::set<int64_t> noted = damaged_shards(store_);
    const auto is_damaged = [&](int64_t shard) {
      return std::binary_search(report_.damaged.begin(), report_.damaged.end(), shard);
    };
    try {
      for (const int64_t shard : report_.damaged) note_damage(store_, shard, "found by a check");
      for (const int64_t shard : noted) {
        if (!is_damaged(shard)) clear_damage(store_, shard);
      }
    } catch (const Error& error) {
      say(fmt::format("damaged shards could not be noted: {}", error.what()));
    }
  }

  Store& store_;
  const VerifyOptions& o_;
  VerifyReport report_;
  std::vector<ManifestEntry> entries_;
  std::string texts_;
};

}  // namespace

VerifyReport verify_run(Store& store, const VerifyOptions& options) {
  return Verification(store, options).run();
}

VerifyReport verify_run(const std::string& url, const VerifyOptions& options) {
  return verify_run(*open_store(url), options);
}

}  // namespace espalier::extract
