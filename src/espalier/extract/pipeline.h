// SPDX-License-Identifier: Apache-2.0
// From the shards of a plan to objects in the store, on threads of their own:
//
//   claim      takes the next shard's lease and loads its samples, one shard ahead
//   compute    runs batches and rounds their activations into the shard in memory: the caller's
//              thread, and one more for each further model
//   write      checksums, writes, commits whole shards
//   heartbeat  keeps the leases of all of them
//
// Between them are queues of a fixed size: at most one shard for each model and kWriters others are
// in memory. The forward pass waits for the store when all of these wait for it, and not before.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "espalier/extract/crew.h"
#include "espalier/extract/reader_model.h"
#include "espalier/extract/run_plan.h"
#include "espalier/extract/shard.h"
#include "espalier/extract/shard_board.h"
#include "espalier/extract/stages.h"
#include "espalier/extract/store.h"

namespace espalier::extract {

/// Shards that are on their way to the store at the same time.
inline constexpr int64_t kWriters = 2;

struct PipelineParts {
  Store& store;
  LeaseKeeper& keeper;
  ShardBoard& board;
  RunPlan& plan;
  std::vector<ReaderModel*> models = {};  // with the same hooks
  DType store_dtype = DType::bf16;
  ShardOptions shard = {};
  int threads = 1;  // of each model's computation
  /// Runs beside the others, in a thread of its own; ends when the crew is to stop.
  std::function<void(Crew&)> background = {};
};

/// What this process made so far. Any thread may read it.
struct PipelineCounts {
  std::atomic<int64_t> shards = 0, samples = 0, tokens = 0;        // committed
  std::atomic<int64_t> computed_samples = 0, computed_tokens = 0;  // committed or not
  std::atomic<int64_t> compiles = 0;
  /// Set at the end: from the beginning until the last batch was computed.
  std::atomic<double> computing_seconds = 0.0;
  /// Set at the end: for each model from the beginning until its own last shard was computed,
  /// summed. Less than computing_seconds times models by what some waited while the others ended.
  std::atomic<double> model_seconds = 0.0;
};

/// What a model runs for a batch of these samples.
TokenRows token_rows(const Batch& batch, const std::vector<Sample>& samples);

/// Makes shards until all of the plan are done, by this process or others: then the result is true.
/// `watch` is called several times a second by a thread of its own; when it says false, the shards
/// being computed are dropped, those on their way to the store are committed, and the result is
/// false. Throws the first error of any thread; then leases are given back. Activations that are
/// not finite are `data`, naming hook, layer and sample, and nothing of their shard is committed.
bool run_pipeline(const PipelineParts& parts, StageTimes& times, PipelineCounts& counts,
                  const std::function<bool()>& watch);

}  // namespace espalier::extract
