// SPDX-License-Identifier: Apache-2.0
// What a run and an estimate of one begin with: models, tokenizer, options with their defaults.
#pragma once

#include <memory>
#include <vector>

#include "espalier/extract/fetch.h"
#include "espalier/extract/job.h"
#include "espalier/extract/pipeline.h"
#include "espalier/extract/planner.h"
#include "espalier/extract/reader_model.h"

namespace espalier::extract {

struct Setup {
  std::unique_ptr<ScratchFolder> fetched;  // holds the datasets that were in object stores
  ExtractOptions options;  // shard_tokens, batch.seq and compile.threads are what is in force
  std::vector<std::unique_ptr<ReaderModel>> models;  // local_workers of them
  text::Tokenizer tokenizer;

  const ReaderModel& model() const { return *models.front(); }
  /// Bytes of a token's activations.
  int64_t token_bytes() const;
  double flops(const PlanTotals& totals) const;
  PlannerOptions planner() const;
  PipelineParts pipeline(Store& store, LeaseKeeper& keeper, ShardBoard& board, RunPlan& plan) const;
};

/// Throws `user` for options that do not fit the model or each other.
Setup open_setup(const ExtractOptions& options);

/// A name for the leases of this process: host and process.
std::string worker_name();

}  // namespace espalier::extract
