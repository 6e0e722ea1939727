// SPDX-License-Identifier: Apache-2.0
// Speed of changing module trees and applying plans, for the models of the measurements that this
// project began with.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace espalier::train {

struct PlanBenchOptions {
  int64_t repeats = 15;  // medians count
  /// make_module_opt runs for models of at most this many parameters; 0: for none.
  int64_t module_opt_limit = 60'000'000;
};

struct PlanBenchResult {
  std::string model;
  int64_t leaves = 0;
  int64_t transforms = 0;         // N: six a layer
  int64_t hits = 0;               // paths that the rules of bert-tp took
  double build_ms = 0.0;          // the abstract tree
  double resolve_apply_ms = 0.0;  // bert-tp: match every path, transform, report
  double copy_ms = 0.0;           // a copy of the tree
  double one_ms = 0.0;            // tree_at with one replacement, the original kept (one copy)
  double one_in_place_ms = 0.0;   // the same, the tree moved in and out
  double one_by_one_ms = 0.0;     // N calls of tree_at, the original of each kept
  double one_walk_ms = 0.0;       // N replacements in one call, the original kept
  double module_opt_ms = -1.0, module_opt_plan_ms = -1.0;  // -1: not run
};

std::vector<PlanBenchResult> bench_plans(
    const PlanBenchOptions& options, const std::function<void(const PlanBenchResult&)>& done = {});

/// One JSON object on one line.
std::string plan_bench_json(const PlanBenchResult& result);
/// A table, microseconds a leaf, and the linear fit beside the law of Equinox's tree_at.
std::string plan_bench_text(const std::vector<PlanBenchResult>& results);

/// y = slope x + offset by least squares.
struct LinearFit {
  double slope = 0.0, offset = 0.0, r2 = 0.0;
};
LinearFit fit_line(const std::vector<double>& x, const std::vector<double>& y);

}  // namespace espalier::train
