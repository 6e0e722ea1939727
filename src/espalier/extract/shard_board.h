// SPDX-License-Identifier: Apache-2.0
// Which shards of a run are done, and which one this process makes next.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <vector>

#include "espalier/extract/lease_keeper.h"
#include "espalier/extract/store.h"

namespace espalier::extract {

/// This process among those that share a run. Any number may share one without knowing: then all
/// are worker 0 of 1, and ask for the same leases more often.
struct WorkerPlace {
  int64_t rank = 0, workers = 1;
};

class ShardBoard {
 public:
  ShardBoard(Store& store, LeaseKeeper& keeper, WorkerPlace place);

  struct Claim {
    int64_t shard = 0;
    std::shared_ptr<LeaseKeeper::Held> lease;
  };
  /// Claims one of the shards below `known` that nobody has and that is not done, or damaged: of
  /// those whose number is this worker's modulo the workers, as long as there are such. Nothing
  /// when there is none now. Called by one thread.
  std::optional<Claim> claim(int64_t known);
  /// The shard is in the manifest; or this process gives it up.
  void done(const Claim& claim);
  void dropped(const Claim& claim);
  /// Shards that this process knows to be done, whoever made them.
  int64_t done_count() const;
  /// Until this process is through with a shard, or for `seconds`.
  void wait(double seconds);
  /// Ends a wait.
  void wake();

 private:
  enum class State : uint8_t { open, ours, done };
  struct Entry {
    State state = State::open;
    double looked = -1e300;  // when others were seen to have it
  };
  void look_at_manifest(int64_t known);
  void mark_done(int64_t shard);
  std::optional<Claim> try_claim(int64_t shard);
  /// With the lease in hand: nobody else changes it.
  bool is_done(int64_t shard);

  Store& store_;
  LeaseKeeper& keeper_;
  const WorkerPlace place_;
  bool idle_ = true;           // the last call found nothing
  double looked_ = -1e300;     // when the manifest was looked at
  std::set<int64_t> damaged_;  // in the manifest, but to be made again
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Entry> entries_;
  int64_t first_open_ = 0;  // all before it are done
  int64_t done_ = 0;
};

}  // namespace espalier::extract
