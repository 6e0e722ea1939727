// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/pipeline.h"

#include <algorithm>
#include <chrono>
#include <optional>

#include "espalier/base/error.h"
#include "espalier/extract/bounded_queue.h"

namespace espalier::extract {
namespace {

constexpr double kWatchSeconds = 0.1;
/// How often shards that others have are looked at, at most.
constexpr double kPollSeconds = 1.0;

/// A claimed shard on its way.
struct Parcel {
  ShardBoard::Claim claim;
  ShardWork work;
  std::unique_ptr<Shard> shard;
};
using ParcelPtr = std::unique_ptr<Parcel>;

class Pipeline {
  using Clock = std::chrono::steady_clock;

 public:
  Pipeline(const PipelineParts& parts, StageTimes& times, PipelineCounts& counts)
      : p_(parts),
        times_(times),
        counts_(counts),
        demand_(parts.models.size()),
        memory_(parts.models.size() + kWriters),
        claimed_(parts.models.size()),
        filled_(parts.models.size() + kWriters),
        crew_([this] {
          demand_.close();
          memory_.close();
          claimed_.close();
          p_.board.wake();
        }) {}

  bool run(const std::function<bool()>& watch) {
    Crew helpers([this] { crew_.stop(); });  // live until the last shard is committed
    helpers.start([&] {
      while (!helpers.wait(p_.keeper.beat_seconds())) p_.keeper.beat();
    });
    helpers.start([&] {
      while (!helpers.wait(kWatchSeconds)) {
        if (!watch()) crew_.stop();
      }
    });
    Crew writers([this] { crew_.stop(); });
    const Closing closing{filled_};  // whatever happens, writers end
    for (int64_t i = 0; i < kWriters; ++i) writers.start([this] { write(); });
    begin_ = Clock::now();
    crew_.start([this] { claim(); });
    if (p_.background) {
      crew_.start([this] { p_.background(crew_); });
    }
    for (size_t i = 1; i < p_.models.size(); ++i) {
      crew_.start([this, i] { compute(*p_.models[i]); });
    }
    crew_.run([this] { compute(*p_.models[0]); });
    crew_.join();
    const std::chrono::duration<double> computing = Clock::now() - begin_;
    counts_.computing_seconds = computing.count();
    filled_.close();
    writers.join();
    helpers.stop();
    helpers.join();
    for (Crew* crew : {&crew_, &writers, &helpers}) crew->rethrow();
    return all_done_;
  }

 private:
  struct Closing {
    BoundedQueue<ParcelPtr>& queue;
    ~Closing() { queue.close(); }
  };

  // ---- claim

  void claim() {
    while (demand_.take()) {
      while (!crew_.stopping()) {
        if (ParcelPtr parcel = next()) {
          claimed_.push(std::move(parcel));
          break;
        }
        const std::optional<int64_t> total = p_.plan.total();
        if (total && p_.board.done_count() >= *total) {
          all_done_ = true;
          claimed_.close();
          return;
        }
        p_.board.wait(std::min(kPollSeconds, p_.keeper.beat_seconds()));
      }
    }
  }

  ParcelPtr next() {
    const StageTimer timer(times_, Stage::claim);
    std::optional<ShardBoard::Claim> claim = p_.board.claim(p_.plan.known());
    if (!claim) return nullptr;
    auto parcel = std::make_unique<Parcel>();
    parcel->work = p_.plan.load(claim->shard);
    parcel->claim = std::move(*claim);
    return parcel;
  }

  // ---- compute

  void compute(ReaderModel& model) {
    Clock::time_point last = begin_;
    while (std::optional<ParcelPtr> parcel = claimed_.pop()) {
      if (!memory_.take()) break;
      if (fill(model, **parcel)) {
        filled_.push(std::move(*parcel));
      } else {
        p_.board.dropped((*parcel)->claim);
        memory_.give();
      }
      last = Clock::now();
    }
    counts_.model_seconds += std::chrono::duration<double>(last - begin_).count();
  }

  /// False when the shard is given up.
  bool fill(ReaderModel& model, Parcel& parcel) {
    const ShardWork& work = parcel.work;
    parcel.shard = std::make_unique<Shard>(work.index, work.first_sample, work.samples,
                                           model.hooks(), model.width(), p_.store_dtype, p_.shard);
    bool complete = true;
    for (size_t i = 0; i < work.batches.size() && complete; ++i) {
      if (i + 1 == work.batches.size()) demand_.give();  // the next is claimed in the meantime
      complete = !crew_.stopping() && !parcel.claim.lease->lost();
      if (complete) {
        run(model, work, work.batches[i], *parcel.shard);
      } else if (i + 1 < work.batches.size()) {
        demand_.give();
      }
    }
    return complete;
  }

  void run(ReaderModel& model, const ShardWork& work, const Batch& batch, Shard& shard) {
    {
      const StageTimer timer(times_, Stage::compute);
      const int64_t compiled = model.compiles();
      model.run(token_rows(batch, work.samples));
      counts_.compiles += model.compiles() - compiled;
    }
    const StageTimer timer(times_, Stage::copy);
    std::vector<const float*> hooks(model.hooks().size());
    for (size_t hook = 0; hook < hooks.size(); ++hook) hooks[hook] = model.activation(hook);
    const auto placements = static_cast<int64_t>(batch.placements.size());
    const int64_t pieces = placements * static_cast<int64_t>(hooks.size());
    bool finite = true;
#pragma omp parallel for num_threads(p_.threads) schedule(dynamic, 1) reduction(&& : finite)
    for (int64_t piece = 0; piece < pieces; ++piece) {
      const auto hook = static_cast<size_t>(piece / placements);
      const Placement& p = batch.placements[static_cast<size_t>(piece % placements)];
      const int64_t at = (p.row * batch.seq + p.column) * model.width();
      finite = shard.put(hook, p.sample, hooks[hook] + at) && finite;
    }
    if (!finite) shard.check_finite();
    counts_.computed_samples += placements;
    for (const Placement& p : batch.placements) {
      counts_.computed_tokens += std::ssize(work.samples[static_cast<size_t>(p.sample)].tokens);
    }
  }

  // ---- write

  void write() {
    while (std::optional<ParcelPtr> popped = filled_.pop()) {
      const ParcelPtr parcel = std::move(*popped);
      if (commit(*parcel)) {
        ++counts_.shards;
        counts_.samples += static_cast<int64_t>(parcel->work.samples.size());
        counts_.tokens += parcel->shard->tokens();
      }
      parcel->shard.reset();
      memory_.give();
    }
  }

  /// False when another worker made the shard, or has it now.
  bool commit(const Parcel& parcel) {
    const LeaseKeeper::Held& lease = *parcel.claim.lease;
    if (!lease.lost()) {
      try {
        const StageTimer timer(times_, Stage::encode);
        const bool made = parcel.shard->commit(p_.store);
        p_.board.done(parcel.claim);
        return made;
      } catch (const Error&) {
        // Who lost the shard while it slept finds its file swept away by the new owner.
        if (!found_lost(lease)) throw;
      }
    }
    p_.board.dropped(parcel.claim);
    return false;
  }

  bool found_lost(const LeaseKeeper::Held& lease) {
    try {
      p_.keeper.beat();
    } catch (const Error&) {
      // The error that led here says more.
    }
    return lease.lost();
  }

  const PipelineParts& p_;
  StageTimes& times_;
  PipelineCounts& counts_;
  Places demand_;  // shards that models want
  Places memory_;  // shards whose activations are in memory
  BoundedQueue<ParcelPtr> claimed_, filled_;
  bool all_done_ = false;
  Clock::time_point begin_;
  Crew crew_;  // claims and computes
};

}  // namespace

TokenRows token_rows(const Batch& batch, const std::vector<Sample>& samples) {
  TokenRows rows(batch.rows, batch.seq);
  for (const Placement& p : batch.placements) {
    const std::vector<int32_t>& tokens = samples[static_cast<size_t>(p.sample)].tokens;
    const auto at = static_cast<size_t>(p.row * batch.seq + p.column);
    for (size_t i = 0; i < tokens.size(); ++i) {
      rows.ids[at + i] = tokens[i];
      rows.positions[at + i] = static_cast<int32_t>(i);
      rows.segments[at + i] = static_cast<int32_t>(p.sample);
    }
  }
  return rows;
}

bool run_pipeline(const PipelineParts& parts, StageTimes& times, PipelineCounts& counts,
                  const std::function<bool()>& watch) {
  return Pipeline(parts, times, counts).run(watch);
}

}  // namespace espalier::extract
