// SPDX-License-Identifier: Apache-2.0
// espalier extract: from a dataset to a run's folder.
//
//   run.json                    everything the bytes depend on
//   shards/shard-00000000.safetensors, ...
//   manifest/00000000.json, ... one object for each shard that is done
//   manifest.jsonl              all of them, when the run is complete
//   leases/                     who works on what
//
// Any number of processes may run the same command on one folder. Killed at any moment and started
// again, a run goes on: what is done stays, nothing is lost and nothing is there twice.
#pragma once

#include <functional>
#include <string>

#include "espalier/backend/executable.h"
#include "espalier/extract/batch_plan.h"
#include "espalier/extract/sample_source.h"
#include "espalier/extract/stages.h"

namespace espalier::extract {

struct ExtractOptions {
  std::string model;      // Hugging Face folder
  std::string tokenizer;  // empty: the model's folder
  std::string output;
  SourceOptions source;
  BatchOptions batch;  // seq is source.max_seq_length
  std::string layers = "all";
  std::string activation = "residual";
  DType store_dtype = DType::bf16;
  int64_t shard_tokens = 16384;
  bool dry_run = false;
  double lease_seconds = 60.0;
  CompileOptions compile;
};

/// What a run shows while it goes.
struct ExtractProgress {
  int64_t shards = 0, shards_done = 0;  // of the run, whoever makes them
  // Made by this process.
  int64_t samples_done = 0, tokens_done = 0, bytes = 0;
  int64_t compiles = 0;
  double seconds = 0.0;  // since its first batch began
};

struct ExtractEvents {
  std::function<void(const std::string&)> line;
  /// Called several times a second, by another thread than run_extract's.
  std::function<void(const ExtractProgress&)> progress;
  std::function<int()> stop;  // a signal to leave for, or 0; from any thread
};

struct ExtractReport {
  SourceReport source;
  std::vector<std::string> hooks;
  int64_t shards = 0, samples = 0, tokens = 0;  // of the run
  int64_t made_shards = 0, made_tokens = 0;     // by this process
  int64_t bytes = 0;                            // written by it
  int64_t compiles = 0;
  double useful_share = 1.0;  // tokens over tokens computed
  double compile_seconds = 0.0, seconds = 0.0;
  StageReport stages;
  double flops = 0.0;
  bool complete = false;
};

/// Throws `user` when `output` holds a run of other settings, naming what differs; `data` for bad
/// samples.
ExtractReport run_extract(const ExtractOptions& options, const ExtractEvents& events);

}  // namespace espalier::extract
