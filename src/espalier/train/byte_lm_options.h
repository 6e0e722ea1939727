// SPDX-License-Identifier: Apache-2.0
// Every choice of a byte-LM run, and what of it goes into checkpoints.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "espalier/backend/executable.h"
#include "espalier/models/byte_lm.h"
#include "espalier/train/checkpoint.h"
#include "espalier/train/optimizer.h"

namespace espalier::train {

struct OptimizerChoice {
  std::string name = "adam";  // adam, adamw, sgd
  double lr = 1e-3;
  std::string schedule = "constant";  // constant, linear, cosine
  int64_t warmup = 0;
  int64_t total = 0;           // steps until the schedule ends; 0: the steps of the run
  double momentum = 0.9;       // sgd
  double weight_decay = 0.01;  // adamw, on weights of matrix products only
  double clip = 0.0;           // global norm; 0: off
};

struct ByteLmOptions {
  models::ByteLmConfig model;
  models::ByteLmVariant variant = models::ByteLmVariant::library;
  /// backend, dtype, fusion, flash, threads, cache.
  CompileOptions compile;
  OptimizerChoice optimizer;
  std::string data = "builtin";
  /// Part of the data kept for evaluation; negative: 0.05 where there is evaluation, else 0.
  double holdout = -1.0;
  int64_t batch_size = 100;
  int64_t steps = 5000;
  uint64_t seed = 0;

  std::string save_dir;    // empty: nothing is written
  int64_t save_every = 0;  // steps; 0: at the end and at signals only
  int64_t keep = 3;        // checkpoints
  bool resume = false;
  int64_t eval_every = 0;
  int64_t eval_batches = 10;
  int64_t log_every = 20;
  double max_seconds = 0.0;  // of training; 0: no limit
  double peak_gflops = 0.0;  // 0: measured at the start
  bool check_nan = false;
  bool profile = false;

  double holdout_or_default() const {
    return holdout >= 0.0 ? holdout : eval_every > 0 ? 0.05 : 0.0;
  }
};

/// Checks what the model and the data do not check themselves; throws `user` naming the flag.
void validate(const ByteLmOptions& options);

Optimizer make_optimizer(const OptimizerChoice& choice, int64_t steps);

/// Architecture as flags name it: what must agree to resume.
CheckpointSection config_section(const models::ByteLmConfig& model);
/// How the run was started: differences are reported, not refused.
CheckpointSection options_section(const ByteLmOptions& options);
/// Takes over model and options of a checkpoint, so that resuming needs no flags; what a flag says
/// is set after this.
void apply_saved(const LoadedCheckpoint& loaded, ByteLmOptions& options);
/// apply_saved from the newest checkpoint in options.save_dir; false when there is none.
bool take_over_run(ByteLmOptions& options);
/// "lr is 0.001 in the checkpoint and 0.0005 now": differences of options that change the numbers.
std::string differing_options(const CheckpointSection& saved, const CheckpointSection& now);
/// The model of a checkpoint; throws `data` naming a missing or unfit entry.
models::ByteLmConfig read_config(const LoadedCheckpoint& loaded);

/// "float32", "bfloat16", "float16" and the short names; throws `user` for others.
DType parse_compute_dtype(std::string_view text);

/// "40.47 GFLOP per sequence = ...": the count behind shares of the peak, in words.
std::string flops_text(const models::ByteLmConfig& model);

}  // namespace espalier::train
