// SPDX-License-Identifier: Apache-2.0
// From a dataset to the plan of a run. The dataset goes by in windows of a fixed number of batches'
// worth of tokens, cut at the end of a line; each window is packed into batches, and these, in
// order, into shards. So memory is bounded, shards can be made while the dataset is still being
// read, and planning can be taken up again behind any window. The numbers of samples in the run are
// their order in the shards.
#pragma once

#include <cstdint>
#include <functional>

#include "espalier/extract/batch_plan.h"
#include "espalier/extract/lease_keeper.h"
#include "espalier/extract/plan_piece.h"
#include "espalier/extract/sample_source.h"
#include "espalier/extract/stages.h"
#include "espalier/extract/stored_plan.h"

namespace espalier::extract {

/// Batches' worth of tokens in a window. The last batch of each is partly empty.
inline constexpr int64_t kWindowBatches = 128;

struct PlannerOptions {
  const SourceOptions& source;
  const text::Tokenizer& tokenizer;
  int64_t vocab_size = 0;  // of the model: larger ids are errors
  BatchOptions batch;
  /// A shard takes batches as long as its samples have no more tokens than this; at least one.
  int64_t shard_tokens = 0;
  LengthSurvey* survey = nullptr;  // of the lengths of all samples, where it is wanted
};

/// Gets a shard and the totals up to it; `resumable`: planning can go on from them. False: enough.
using TakeShard = std::function<bool(ShardWork work, PlanTotals& totals, bool resumable)>;

/// Plans on from `from` and returns the totals; nothing when `take` had enough. Lines are read by a
/// thread of its own. Throws `data` for bad lines, for samples that are too long under
/// LengthPolicy::error, and for a dataset without samples.
std::optional<PlanTotals> make_plan(const PlannerOptions& options, const PlanTotals& from,
                                    StageTimes& times, const TakeShard& take);

}  // namespace espalier::extract
