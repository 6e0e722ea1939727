// SPDX-License-Identifier: Apache-2.0
// Choices that the runs of every model have, and how they get into checkpoints and back.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "espalier/backend/executable.h"
#include "espalier/base/error.h"
#include "espalier/tensor/dtype_names.h"
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
  double weight_decay = 0.01;  // adamw
  double clip = 0.0;           // global norm; 0: off
};

struct RunOptions {
  /// backend, dtype, fusion, flash, threads, cache.
  CompileOptions compile;
  OptimizerChoice optimizer;
  std::string data = "builtin";
  /// Part of the data kept for evaluation; negative: 0.05 where there is evaluation, else 0.
  double holdout = -1.0;
  int64_t batch_size = 100;  // sequences of a step
  int64_t accumulate = 1;    // parts that a batch is cut into, one after the other
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
  /// Sequences that are in memory at once.
  int64_t part_size() const { return batch_size / accumulate; }
};

/// A default warmup that is as long as the schedule becomes a tenth of it.
void shorten_warmup(RunOptions& options);
/// Checks what model and data do not check themselves; throws `user` naming the flag.
void validate_run(const RunOptions& options);
/// "a,b" as a and b.
std::vector<std::string> split_list(std::string_view text);
/// Throws `user` with the nearest of `known` when `value` is none of them.
void check_choice(std::string_view flag, const std::string& value,
                  const std::vector<std::string>& known);

/// `mask`: what the weight decay of adamw applies to.
Optimizer make_optimizer(const OptimizerChoice& choice, int64_t steps, const DecayMask& mask);

/// How the run was started: differences are reported, not refused.
CheckpointSection run_section(const RunOptions& options);
/// Takes over what run_section wrote, the seed and the data; what a flag says is set after this.
void apply_run_section(const LoadedCheckpoint& loaded, RunOptions& options);
/// "lr is 0.001 in the checkpoint and 0.0005 now": differences of options that change the numbers.
std::string differing_options(const CheckpointSection& saved, const CheckpointSection& now);

/// The kind of model of a checkpoint: "byte-lm", "bert". `folder` is for messages.
std::string job_of(const CheckpointSection& config, const std::filesystem::path& folder);
std::string job_of(const LoadedCheckpoint& loaded);
/// Throws `user` when the checkpoint is of another kind of model.
void check_job(const LoadedCheckpoint& loaded, std::string_view job);

/// A section of a checkpoint as typed values.
class SavedSection {
 public:
  SavedSection(const CheckpointSection& section, std::filesystem::path folder)
      : section_(section), folder_(std::move(folder)) {}
  /// Sets `value` where there is such an entry; `data` error when it has another type.
  template <typename T>
  void take(const std::string& name, T& value) const {
    const auto found = section_.find(name);
    if (found == section_.end()) return;
    ESPALIER_CHECK(std::holds_alternative<T>(found->second), ErrorKind::data, "checkpoint",
                   "option \"{}\" has another type than this version's, at {}", name,
                   folder_.string());
    value = std::get<T>(found->second);
  }
  /// `data` error when there is none.
  int64_t size(const std::string& name) const;

 private:
  const CheckpointSection& section_;
  std::filesystem::path folder_;
};

/// "float32", "bfloat16", "float16" and the short names; throws `user` for others, naming the flag.
DType parse_compute_dtype(std::string_view text, std::string_view flag = "--dtype");

}  // namespace espalier::train
