// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/estimate.h"

#include <algorithm>
#include <chrono>
#include <filesystem>

#include "espalier/extract/memory_plan.h"
#include "espalier/extract/metered_store.h"
#include "espalier/extract/scratch_folder.h"
#include "espalier/extract/setup.h"

namespace espalier::extract {
namespace {

namespace fs = std::filesystem;

/// Shards kept from the plan, evenly spaced, to choose those that are made from.
constexpr size_t kKept = 256;
/// About how long is measured, and how many shards at least where they are quick.
constexpr double kSeconds = 4.0;
constexpr double kLeaseSeconds = 3600.0;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// A few of all, evenly spaced, whatever their number will be.
class Spread {
 public:
  void add(ShardWork work) {
    if (work.index % stride_ != 0) return;
    kept_.push_back(std::move(work));
    if (kept_.size() < kKept) return;
    stride_ *= 2;
    std::erase_if(kept_, [&](const ShardWork& shard) { return shard.index % stride_ != 0; });
  }
  const std::vector<ShardWork>& all() const { return kept_; }
  /// `count` of them, at most all.
  std::vector<ShardWork> some(size_t count) const {
    count = std::min(count, kept_.size());
    std::vector<ShardWork> chosen;
    for (size_t i = 0; i < count; ++i) chosen.push_back(kept_[i * kept_.size() / count]);
    return chosen;
  }

 private:
  int64_t stride_ = 1;
  std::vector<ShardWork> kept_;
};

/// The output, or as near as there is a folder.
fs::path nearest_folder(const fs::path& path) {
  std::error_code error;
  for (fs::path at = fs::absolute(path); !at.empty(); at = at.parent_path()) {
    if (fs::is_directory(at, error)) return at;
    if (at == at.parent_path()) break;
  }
  return fs::current_path();
}

class Estimator {
 public:
  Estimator(const ExtractOptions& options, const ExtractEvents& events)
      : events_(events), setup_(open_setup(options)) {}

  Estimate run() {
    const double opened = now() - begin_;
    plan();
    const bool remote = setup_.options.output.find("://") != std::string::npos;
    const fs::path near =
        remote ? fs::temp_directory_path() : nearest_folder(setup_.options.output);
    std::error_code unknown;
    const fs::space_info space = fs::space(near, unknown);
    e_.network = remote;
    if (!unknown && !remote) e_.free_bytes = static_cast<int64_t>(space.available);
    if (!e_.refused) measure(near, opened);
    return e_;
  }

 private:
  bool stopped() const { return events_.stop && events_.stop() != 0; }

  void plan() {
    StageTimes times;
    LengthPolicy& policy = setup_.options.source.length_policy;
    const bool may_refuse = policy == LengthPolicy::error;
    // The first sample that is too long shall not hide the others.
    if (may_refuse) policy = LengthPolicy::window;
    PlannerOptions planner = setup_.planner();
    e_.lengths.most = setup_.options.source.max_seq_length;
    planner.survey = &e_.lengths;
    const auto totals =
        make_plan(planner, {}, times, [&](ShardWork work, PlanTotals& so_far, bool) {
          e_.plan = so_far;
          spread_.add(std::move(work));
          return !stopped();
        });
    if (totals) e_.plan = *totals;
    e_.refused = may_refuse && e_.lengths.too_long > 0;
    e_.hooks = setup_.model().hooks();
    e_.width = setup_.model().width();
    e_.shard_tokens = setup_.options.shard_tokens;
    e_.useful_share =
        static_cast<double>(e_.plan.tokens) / static_cast<double>(e_.plan.computed_tokens);
    e_.flops = setup_.flops(e_.plan);
    e_.bytes = e_.plan.tokens * setup_.token_bytes();
  }

  /// Compiles what the plan needs. Returns the seconds of the first batches.
  double warm_up() {
    const double begin = now();
    for (const auto& [shape, count] : e_.plan.batches) {
      for (const auto& model : setup_.models) {
        if (!stopped()) model->run(first_of(shape));
        warm_flops_ += model->flops(shape.first, shape.second);
      }
    }
    return now() - begin;
  }

  TokenRows first_of(std::pair<int64_t, int64_t> shape) const {
    for (const ShardWork& work : spread_.all()) {
      for (const Batch& batch : work.batches) {
        if (std::pair(batch.rows, batch.seq) == shape) return token_rows(batch, work.samples);
      }
    }
    return {shape.first, shape.second};
  }

  void measure(const fs::path& near, double opened) {
    const double first = warm_up();
    // Twice: the first pass tells how many shards the second one takes.
    const auto teams = std::ssize(setup_.models);
    double pace = first / std::max(warm_flops_, 1.0) / static_cast<double>(teams);
    double computing = 0.0, draining = 0.0, flops = 0.0;
    for (int pass = 0; pass < 2 && !stopped(); ++pass) {
      const double each = pace * e_.flops / static_cast<double>(e_.plan.shards);
      const double wanted = (pass == 0 ? 0.25 : 1.0) * kSeconds / std::max(each, 1e-6);
      if (pass == 1 && wanted < 2.0 * static_cast<double>(teams)) break;  // they are slow
      const auto count = std::max<int64_t>(teams, static_cast<int64_t>(std::min(wanted, 1e6)));
      MemoryPlan some(spread_.some(static_cast<size_t>(count)));
      flops = setup_.flops(some.totals());
      const ScratchFolder scratch(near, "estimate");
      StageTimes times;
      MeteredStore store(open_folder_store(scratch.path()), times);
      LeaseKeeper keeper(store, worker_name(), {.expire_seconds = kLeaseSeconds, .clock = {}});
      ShardBoard board(store, keeper, {});
      PipelineCounts counts;
      const double begin = now();
      run_pipeline(setup_.pipeline(store, keeper, board, some), times, counts,
                   [this] { return !stopped(); });
      computing = counts.computing_seconds;
      draining = now() - begin - computing;
      // What the models waited for the last of them is no part of the pace: the measured shards are
      // few, and it weighs more among them than in the whole run.
      pace = counts.model_seconds / static_cast<double>(teams) / flops;
      e_.measured_shards = counts.shards;
      e_.measured_seconds = now() - begin;
      e_.bytes = static_cast<int64_t>(static_cast<double>(store.bytes()) *
                                      static_cast<double>(e_.plan.tokens) /
                                      static_cast<double>(some.totals().tokens));
    }
    if (stopped()) return;
    // At the end each of the others waits half a shard for the last, on the average.
    const double each = pace * e_.flops / static_cast<double>(std::max<int64_t>(e_.plan.shards, 1));
    const double all = pace * e_.flops + each * 0.5 * static_cast<double>(teams - 1);
    e_.start_seconds =
        opened + std::max(0.0, first - pace * warm_flops_ * static_cast<double>(teams));
    e_.tokens_per_second = static_cast<double>(e_.plan.tokens) / all;
    e_.seconds =
        e_.start_seconds + draining + all / static_cast<double>(setup_.options.place.workers);
  }

  const ExtractEvents& events_;
  const double begin_ = now();
  Setup setup_;
  Spread spread_;
  double warm_flops_ = 0.0;
  Estimate e_;
};

}  // namespace

Estimate estimate_extract(const ExtractOptions& options, const ExtractEvents& events) {
  return Estimator(options, events).run();
}

}  // namespace espalier::extract
