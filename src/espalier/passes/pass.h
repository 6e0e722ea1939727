// SPDX-License-Identifier: Apache-2.0
// Passes: functions from graph to graph. `pipeline.cpp` holds the two ordered lists: what runs on
// the forward graph before gradients are taken, and what runs on the whole step after that.
// Each pass is timed, verified after, dumpable by name and can be switched off by name.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/ir/graph.h"

namespace espalier::passes {

struct PassOptions {
  DType compute_dtype = DType::f32;   // of matmul and attention inputs
  bool fuse = true;                   // false: every op becomes a loop of its own
  bool flash = true;                  // false: attention from basic ops
  bool gated = true;                  // kernels compute silu(x w) * (x v) as one product
  std::vector<std::string> remat;     // scope globs to recompute in the backward pass
  std::vector<std::string> disabled;  // names of passes to leave out
};

using PassFn = ir::Graph (*)(const ir::Graph&, const PassOptions&);

struct Pass {
  std::string_view name;
  PassFn run;
  bool required;  // cannot be switched off: later stages rely on its result
};

struct PassTiming {
  std::string name;
  double seconds = 0.0;
  size_t nodes_before = 0;
  size_t nodes_after = 0;
};

/// Called after each pass with its name and result.
using PassObserver = std::function<void(std::string_view, const ir::Graph&)>;

/// The passes before gradients: composites become basic ops, attention is recognized.
const std::vector<Pass>& canonical_passes();
/// The passes on the whole step, ending with `prepack` and `fuse`.
const std::vector<Pass>& step_passes();

/// Runs a list; throws `user` when a disabled name is unknown or required.
ir::Graph run_passes(const std::vector<Pass>& passes, const ir::Graph& graph,
                     const PassOptions& options, std::vector<PassTiming>* timings = nullptr,
                     const PassObserver& observer = nullptr);

inline ir::Graph canonicalize(const ir::Graph& graph, const PassOptions& options) {
  return run_passes(canonical_passes(), graph, options);
}

// One pass a file. Drawings of before and after stand there.
ir::Graph fold(const ir::Graph& graph, const PassOptions& options);
ir::Graph cse(const ir::Graph& graph, const PassOptions& options);
ir::Graph order(const ir::Graph& graph, const PassOptions& options);
ir::Graph dce(const ir::Graph& graph, const PassOptions& options);
ir::Graph decompose(const ir::Graph& graph, const PassOptions& options);
ir::Graph attention(const ir::Graph& graph, const PassOptions& options);
ir::Graph erase_stops(const ir::Graph& graph, const PassOptions& options);
ir::Graph precision(const ir::Graph& graph, const PassOptions& options);
ir::Graph remat(const ir::Graph& graph, const PassOptions& options);
ir::Graph fuse(const ir::Graph& graph, const PassOptions& options);
ir::Graph prepack(const ir::Graph& graph, const PassOptions& options);

}  // namespace espalier::passes
