// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/job.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "espalier/base/error.h"
#include "espalier/base/parallel.h"
#include "espalier/extract/crew.h"
#include "espalier/extract/manifest.h"
#include "espalier/extract/metered_store.h"
#include "espalier/extract/run_file.h"
#include "espalier/extract/setup.h"
#include "espalier/extract/stored_plan.h"

namespace espalier::extract {
namespace {

constexpr int64_t kEntryLimit = 4096;
constexpr const char* kManifestKey = "manifest.jsonl";
/// Objects that are read at the same time when the manifest is put together.
constexpr int kReaders = 16;
/// How often a worker asks whether another has finished the plan, at most.
constexpr double kPlanPollSeconds = 0.5;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

class Job {
 public:
  Job(const ExtractOptions& options, const ExtractEvents& events)
      : events_(events),
        setup_(open_setup(options)),
        store_(open_store(options.output), times_),
        plan_(store_, describe_run(setup_.options, setup_.model().hooks(),
                                   io::HashCache(setup_.options.compile.cache_dir))),
        keeper_(store_, worker_name(), {.expire_seconds = options.lease_seconds, .clock = {}}),
        board_(store_, keeper_, options.place) {}

  ExtractReport run() {
    plan_.joined();  // another run's folder is refused before anything is computed
    PipelineParts parts = setup_.pipeline(store_, keeper_, board_, plan_);
    parts.background = [this](Crew& crew) { plan(crew); };
    const auto watch = [this] {
      show();
      return !events_.stop || events_.stop() == 0;
    };
    const bool was_complete = store_.size(kManifestKey).has_value();
    bool done = false;
    try {
      done = run_pipeline(parts, times_, counts_, watch);
    } catch (const Error&) {
      // Who slept until others had completed the run finds its files swept away.
      done = !was_complete && store_.size(kManifestKey).has_value();
      if (!done) throw;
    }
    show();
    if (done) finish();
    return report(done);
  }

 private:
  // ---- the plan

  /// Plans, or waits until another worker has.
  void plan(Crew& crew) {
    while (!crew.stopping() && !plan_.total()) {
      if (const auto lease = keeper_.claim("plan")) {
        if (!plan_.total()) plan_under(*lease, crew);
        keeper_.release(lease);
      } else {
        crew.wait(std::min(kPlanPollSeconds, keeper_.beat_seconds()));
      }
    }
  }

  void plan_under(const LeaseKeeper::Held& lease, Crew& crew) {
    const std::optional<PlanTotals> totals =
        make_plan(setup_.planner(), plan_.resume_point(), times_,
                  [&](const ShardWork& work, PlanTotals& so_far, bool resumable) {
                    if (crew.stopping() || lease.lost()) return false;
                    // What cannot be read at all leaves no run behind.
                    if (!plan_.joined()) plan_.begin();
                    plan_.add(work, so_far, resumable);
                    board_.wake();
                    return true;
                  });
    if (totals) plan_.complete(*totals);
  }

  // ---- what is shown

  void show() {
    if (!events_.progress) return;
    const std::optional<PlanTotals> totals = plan_.totals_so_far();
    ExtractProgress p{.shards = plan_.known_so_far(),
                      .planned = totals.has_value(),
                      .shards_done = board_.done_count(),
                      .tokens = totals ? totals->tokens : 0,
                      .made_shards = counts_.shards,
                      .made_samples = counts_.samples,
                      .made_tokens = counts_.tokens,
                      .bytes = store_.bytes(),
                      .computed_samples = counts_.computed_samples,
                      .computed_tokens = counts_.computed_tokens,
                      .compiles = counts_.compiles};
    if (p.computed_tokens > 0 && done_before_ < 0) {
      // The first batch compiled: the pace counts from its end on.
      done_before_ = p.shards_done;
      computed_before_ = {p.computed_samples, p.computed_tokens};
      pace_begin_ = now();
    }
    if (done_before_ >= 0) p.compute_seconds = now() - pace_begin_;
    const std::pair all{p.computed_samples, p.computed_tokens};
    p.computed_samples -= computed_before_.first;
    p.computed_tokens -= computed_before_.second;
    if (p.planned && p.compute_seconds > 0.0) p.remaining = remaining(p);
    if (p.computed_tokens == 0 && all.second > 0) {
      // There is one batch so far: its pace is that of all there is, compilation included.
      std::tie(p.computed_samples, p.computed_tokens) = all;
      p.compute_seconds = now() - begin_;
    }
    events_.progress(p);
  }

  /// By the shards that all workers made since, or else by the tokens that this one computed.
  double remaining(const ExtractProgress& p) const {
    const auto left = static_cast<double>(p.shards - p.shards_done);
    const int64_t moved = p.shards_done - done_before_;
    if (moved > 0) return p.compute_seconds * left / static_cast<double>(moved);
    if (p.computed_tokens <= 0) return -1.0;
    const double tokens = static_cast<double>(p.tokens) * left / static_cast<double>(p.shards);
    return p.compute_seconds * tokens / static_cast<double>(p.computed_tokens) /
           static_cast<double>(setup_.options.place.workers);
  }

  // ---- the end

  void finish() {
    const int64_t shards = plan_.total().value();
    std::vector<std::string> entries(static_cast<size_t>(shards));
    parallel_for(shards, kReaders, [&](int64_t i) {
      const std::optional<std::string> entry = store_.get(manifest_key(i), kEntryLimit);
      ESPALIER_CHECK(entry.has_value(), ErrorKind::data, "extract",
                     "{} was there and is gone; the same command makes it again",
                     store_.where(manifest_key(i)));
      entries[static_cast<size_t>(i)] = *entry;
    });
    std::string all;
    for (const std::string& entry : entries) all += entry;
    parse_manifest(all, store_.where(kManifestKey));
    const auto there = [&] {
      return store_.size(kManifestKey) == std::ssize(all) &&
             store_.get(kManifestKey, std::ssize(all)) == all;
    };
    try {
      if (!there()) store_.put(kManifestKey, all);
    } catch (const Error&) {
      // Of two that are through at the same time, one may sweep the other's file away.
      if (!there()) throw;
    }
    // Nobody needs what dead workers left behind.
    for (const std::string& key : store_.list("leases/")) store_.remove(key);
    store_.sweep("");
  }

  ExtractReport report(bool complete) {
    ExtractReport r{.hooks = setup_.model().hooks(),
                    .width = setup_.model().width(),
                    .shard_tokens = setup_.options.shard_tokens,
                    .made_shards = counts_.shards,
                    .made_samples = counts_.samples,
                    .made_tokens = counts_.tokens,
                    .bytes = store_.bytes(),
                    .compiles = counts_.compiles,
                    .seconds = now() - begin_,
                    .complete = complete};
    for (const auto& model : setup_.models) r.compile_seconds += model->compile_seconds();
    if (const std::optional<PlanTotals> totals = plan_.totals_so_far()) {
      r.planned = true;
      r.plan = *totals;
      r.useful_share =
          static_cast<double>(totals->tokens) / static_cast<double>(totals->computed_tokens);
      r.flops = setup_.flops(*totals);
    }
    r.stages = report_stages(times_, r.seconds, std::ssize(setup_.models), kWriters);
    return r;
  }

  const ExtractEvents& events_;
  const double begin_ = now();
  StageTimes times_;
  PipelineCounts counts_;
  Setup setup_;
  MeteredStore store_;
  StoredPlan plan_;
  LeaseKeeper keeper_;
  ShardBoard board_;
  // Of the thread that shows: what was done when it began to measure the pace.
  int64_t done_before_ = -1;
  std::pair<int64_t, int64_t> computed_before_;
  double pace_begin_ = 0.0;
};

}  // namespace

ExtractReport run_extract(const ExtractOptions& options, const ExtractEvents& events) {
  return Job(options, events).run();
}

}  // namespace espalier::extract
