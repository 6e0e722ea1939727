// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/run_scan.h"

#include <algorithm>
#include <chrono>
#include <mutex>

#include "espalier/base/error.h"
#include "espalier/base/parallel.h"

namespace espalier::extract {
namespace {

using Clock = std::chrono::steady_clock;

/// An activation's statistics so far, and where its largest tokens are.
struct Total {
  std::string name;
  HookStatistics statistics;
  std::map<int64_t, TokenPlace> places;  // by token of the run

  void add(const HookScan& scan, int64_t first_token) {
    statistics.merge(scan.statistics, first_token);
    for (size_t i = 0; i < scan.places.size(); ++i) {
      places[scan.statistics.largest()[i].index + first_token] = scan.places[i];
    }
    std::erase_if(places, [&](const auto& place) {
      const std::vector<Outlier>& largest = statistics.largest();
      return std::none_of(largest.begin(), largest.end(),
                          [&](const Outlier& token) { return token.index == place.first; });
    });
  }

  HookReport report() const {
    HookReport report{.name = name, .summary = statistics.summary()};
    for (const Outlier& token : statistics.largest()) {
      report.largest.push_back({token.value, places.at(token.index)});
    }
    return report;
  }
};

class Scanner {
 public:
  Scanner(Store& store, std::span<const ManifestEntry> entries, const RunScanOptions& options)
      : store_(store), entries_(entries), o_(options) {
    scan_.checksums = o_.checksums;
    scan_.hooks = o_.hooks;
    scan_.read = [this](int64_t bytes) { advance(bytes); };
    for (const ManifestEntry& entry : entries) progress_.total += entry.bytes;
  }

  RunScan run() {
    // Rounds, so that what waits to be added in order stays little.
    const int threads = thread_count(o_.threads);
    const size_t round = 4 * static_cast<size_t>(threads);
    for (size_t begin = 0; begin < entries_.size(); begin += round) {
      const auto part = entries_.subspan(begin, std::min(round, entries_.size() - begin));
      std::vector<ShardScan> scans(part.size());
      parallel_for(std::ssize(part), threads, [&](int64_t i) {
        const auto at = static_cast<size_t>(i);
        scans[at] = scan_shard(store_, part[at], scan_);
      });
      for (size_t i = 0; i < part.size(); ++i) add(part[i], scans[i]);
    }
    for (const Total& total : totals_) result_.hooks.push_back(total.report());
    return std::move(result_);
  }

 private:
  void advance(int64_t bytes) {
    const std::lock_guard lock(mutex_);
    progress_.bytes += bytes;
    progress_.seconds = std::chrono::duration<double>(Clock::now() - start_).count();
    if (o_.progress) o_.progress(progress_);
  }

  void add(const ManifestEntry& entry, const ShardScan& scan) {
    for (const std::string& line : scan.wrong) result_.wrong.push_back(line);
    if (scan.damaged) result_.damaged.push_back(entry.shard);
    if (scan.hooks.empty() || scan.damaged) return;
    if (totals_.empty()) {
      result_.dtype = scan.dtype;
      result_.compression = scan.compression;
      result_.width = scan.width;
      for (const HookScan& hook : scan.hooks) {
        totals_.push_back({hook.name, HookStatistics(scan.width), {}});
      }
    }
    const bool same =
        scan.dtype == result_.dtype && scan.compression == result_.compression &&
        scan.width == result_.width &&
        std::equal(scan.hooks.begin(), scan.hooks.end(), totals_.begin(), totals_.end(),
                   [](const HookScan& a, const Total& b) { return a.name == b.name; });
    if (!same) {
      result_.wrong.push_back(fmt::format(
          "{} has other activations, or of other width, dtype or compression, than the first shard",
          store_.where(shard_key(entry.shard))));
      return;
    }
    for (size_t i = 0; i < totals_.size(); ++i) totals_[i].add(scan.hooks[i], result_.tokens);
    result_.tokens += entry.tokens;
  }

  Store& store_;
  std::span<const ManifestEntry> entries_;
  const RunScanOptions& o_;
  ScanOptions scan_;
  std::vector<Total> totals_;
  RunScan result_;
  std::mutex mutex_;
  ScanProgress progress_;
  Clock::time_point start_ = Clock::now();
};

}  // namespace

RunScan scan_run(Store& store, std::span<const ManifestEntry> entries,
                 const RunScanOptions& options) {
  return Scanner(store, entries, options).run();
}

}  // namespace espalier::extract
