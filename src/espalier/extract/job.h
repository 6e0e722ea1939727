// SPDX-License-Identifier: Apache-2.0
// espalier extract: from a dataset to a run's folder, or prefix of an object store.
//
//   run.json                    everything the bytes depend on
//   plan/, plan.json            which samples are in which shard, with their tokens
//   shards/shard-00000000.safetensors, ...
//   manifest/00000000.json, ... one object for each shard that is done
//   manifest.jsonl              all of them, when the run is complete
//   leases/                     who works on what
//
// Any number of processes may run the same command on one folder: one of them plans, all of them
// make shards. Killed at any moment and started again, a run goes on: what is done stays, nothing
// is lost and nothing is there twice.
#pragma once

#include <functional>
#include <string>

#include "espalier/backend/executable.h"
#include "espalier/extract/batch_plan.h"
#include "espalier/extract/plan_piece.h"
#include "espalier/extract/sample_source.h"
#include "espalier/extract/shard.h"
#include "espalier/extract/shard_board.h"
#include "espalier/extract/stages.h"

namespace espalier::extract {

struct ExtractOptions {
  std::string model;      // Hugging Face folder
  std::string tokenizer;  // empty: the model's folder, or bytes for a byte LM
  std::string output;
  SourceOptions source;
  BatchOptions batch;  // seq is source.max_seq_length
  std::string layers = "all";
  std::string activation = "residual";
  DType store_dtype = DType::bf16;
  ShardOptions shard;
  /// The most tokens of a shard, but a batch's; 0: as many as make it kShardBytes.
  int64_t shard_tokens = 0;
  double lease_seconds = 60.0;
  WorkerPlace place;
  /// Models that this process runs side by side, each with its share of the threads and with
  /// weights of its own.
  int64_t local_workers = 1;
  /// Folder in which weights laid out for the kernels are kept, for later processes and those
  /// beside this one; empty: nowhere.
  std::string pack_cache;
  CompileOptions compile;
};

/// Bytes of activations in a shard, unless shard_tokens says otherwise: a few shards fit into
/// memory beside a model.
inline constexpr int64_t kShardBytes = int64_t{128} << 20;

/// What a run shows while it goes.
struct ExtractProgress {
  int64_t shards = 0;  // of the run, as far as it is planned
  bool planned = false;
  int64_t shards_done = 0;  // by anyone
  int64_t tokens = 0;       // of the run, once it is planned
  // Made by this process.
  int64_t made_shards = 0, made_samples = 0, made_tokens = 0, bytes = 0;
  // Computed by it, committed or not, and in what time.
  int64_t computed_samples = 0, computed_tokens = 0;
  double compute_seconds = 0.0;
  int64_t compiles = 0;
  double remaining = -1.0;  // seconds, at the pace so far of all workers; negative: not known yet
};

struct ExtractEvents {
  std::function<void(const std::string&)> line;
  /// Called several times a second, by another thread than run_extract's.
  std::function<void(const ExtractProgress&)> progress;
  std::function<int()> stop;  // a signal to leave for, or 0; from any thread
};

struct ExtractReport {
  std::vector<std::string> hooks;
  int64_t width = 0;
  int64_t shard_tokens = 0;
  bool planned = false;
  PlanTotals plan;            // of the run, when it is planned
  double useful_share = 1.0;  // tokens over tokens computed
  double flops = 0.0;
  int64_t made_shards = 0, made_samples = 0, made_tokens = 0;  // by this process
  int64_t bytes = 0;                                           // written by it
  int64_t compiles = 0;
  double compile_seconds = 0.0, seconds = 0.0;
  StageReport stages;
  bool complete = false;
};

/// Throws `user` when `output` holds a run of other settings, naming what differs; `data` for bad
/// samples; `device` when the store fails.
ExtractReport run_extract(const ExtractOptions& options, const ExtractEvents& events);

}  // namespace espalier::extract
