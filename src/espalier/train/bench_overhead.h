// SPDX-License-Identifier: Apache-2.0
// What a training step costs beside its kernels: the host's work for models of more and more
// leaves, and make_train_step against a step put together by hand.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "espalier/train/bench_bert.h"

namespace espalier::train {

struct OverheadOptions {
  int64_t steps = 20;  // timed, of each model; the median counts
  int64_t pairs = 40;  // timed runs of each of the two steps that are compared
  int threads = 0;
};

struct OverheadResult {
  int64_t layers = 0;
  int64_t leaves = 0;  // parameters, moments and counters
  /// Setting the batch, `run` outside of kernels, reading the loss.
  double host_us_per_step = 0.0;
};

struct ByHandResult {
  double dropout = 0.0;
  bool same_program = false;  // after fusion, as text
  double library_seconds = 0.0, by_hand_seconds = 0.0;
  double ratio = 0.0;  // by hand over library: median over pairs of neighbouring runs
};

/// The step that `bert_bench_step` makes with make_train_step, from partition, combine, gradients
/// and the optimizer's nodes.
Step bert_step_by_hand(const BertBenchSetting& setting, const CompileOptions& compile);

/// Narrow BERTs of 2 to 100 layers, 128 to 4,832 leaves.
std::vector<OverheadResult> bench_overhead(const OverheadOptions& options,
                                           const std::function<void(const OverheadResult&)>& done);
/// Without and with dropout.
std::vector<ByHandResult> bench_by_hand(const OverheadOptions& options,
                                        const std::function<void(const ByHandResult&)>& done);

std::string overhead_json(const OverheadResult& result);
std::string overhead_line(const OverheadResult& result);
std::string by_hand_json(const ByHandResult& result);
std::string by_hand_line(const ByHandResult& result);

}  // namespace espalier::train
