// SPDX-License-Identifier: Apache-2.0
// A compiled graph and its state. `compile` runs the passes, plans memory and makes kernels;
// `run` sets nothing up and allocates nothing: it reads the batch pointers and executes.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/backend/packed_weights.h"
#include "espalier/ir/graph.h"
#include "espalier/tensor/host_tensor.h"

namespace espalier {

struct CompileOptions {
  /// "cpu", or "interp": every op in double, for checks.
  std::string backend = "cpu";
  /// Type of matmul and attention inputs: f32, bf16, f16. Everything else stays f32.
  DType compute_dtype = DType::f32;
  /// false: every op is a kernel of its own (`--compile 0`).
  bool fuse = true;
  /// false: attention is computed from basic ops with a [seq, seq] matrix (`--flash 0`).
  bool flash = true;
  /// Scopes whose forward values are recomputed in the backward pass.
  std::vector<std::string> remat;
  /// Passes left out, by name.
  std::vector<std::string> disabled_passes;
  /// OpenMP threads; 0: as many as the machine has.
  int threads = 0;
  /// Folder of compiled loops; empty: no cache on disk.
  std::string cache_dir;
};

struct CompileStats {
  double seconds = 0.0;  // all of it
  double pass_seconds = 0.0;
  double kernel_seconds = 0.0;  // generating and loading code
  int64_t loops = 0;            // calls of generated loops in one run
  int64_t distinct_loops = 0;
  int64_t loops_from_cache = 0;
  int64_t predicted_bytes = 0;  // arena + state + packed weights + scratch
  int64_t arena_bytes = 0;
  int64_t peak_live_bytes = 0;  // lower bound for the arena
  int64_t state_bytes = 0;
  int64_t packed_bytes = 0;  // of shared weights in the layouts of kernels
};

/// Time of one kernel of the last profiled runs.
struct ProfileRow {
  std::string kind;   // "matmul", "attention", "loop", ...
  std::string label;  // scope and shapes
  int64_t calls = 0;
  double seconds = 0.0;
  double flops = 0.0;  // of all calls, 0 where not counted
  double bytes = 0.0;
};

/// One kernel call of a profiled run, seconds since that run's start.
struct ProfileEvent {
  int32_t row = 0;
  double start = 0.0;
  double seconds = 0.0;
};

class Executable {
 public:
  virtual ~Executable() = default;
  /// Index of a graph input by name; throws `user` with the nearest name.
  virtual int32_t input_index(std::string_view name) const = 0;
  /// Sets where a "batch" or "scalar" input is read from. The memory must hold the input's bytes,
  /// stay valid during `run`, and be 4-byte aligned.
  virtual void set_input(int32_t index, const void* data) = 0;
  /// The buffer of a "parameter" or "state" input, to read or fill between runs. The view lives as
  /// long as the executable. Ask again before writing after a run: weights that the graph never
  /// updates are packed at the first run after a call of this.
  virtual HostTensor state(std::string_view name) = 0;
  /// A result that replaces no input; valid until the next run.
  virtual HostTensor output(std::string_view name) const = 0;
  virtual void run() = 0;
  /// Gives memory that only a run needs back to the system until the next one; outputs are gone.
  virtual void rest() {}

  virtual const CompileStats& stats() const = 0;
  /// Host seconds spent in the last `run` outside kernels (and outside oneDNN's execute).
  virtual double host_seconds_last_run() const = 0;
  virtual void set_profiling(bool on) = 0;
  virtual std::vector<ProfileRow> profile() const = 0;
  virtual std::vector<ProfileEvent> last_events() const = 0;
};

/// Memory of "parameter" and "state" inputs that something else keeps, by name.
using StateViews = std::map<std::string, HostTensor, std::less<>>;

/// Compiles a whole step. Inputs of role "parameter" and "state" become buffers of the executable,
/// zero at first; outputs with an alias replace them in place. Those named in `shared` use that
/// memory instead: several executables work on one state, one at a time. Where one of them updates
/// parameters, the others leave out the pass "prepack", or state() is asked for in between.
///
/// With `packed`, weights that the graph never updates are laid out there at the first run that
/// finds them missing, and what has been laid out is taken as it is: no program changes them.
std::unique_ptr<Executable> compile(const ir::Graph& graph, const CompileOptions& options,
                                    const StateViews& shared = {},
                                    std::shared_ptr<PackedWeights> packed = nullptr);

/// Throws `user` unless a shared state has the type that an input needs.
void check_shared(std::string_view name, const ir::TensorType& wanted, const HostTensor& shared);

/// Text of a stage of the pipeline: "traced", any pass name, "fused", "program".
std::string dump_stage(const ir::Graph& graph, const CompileOptions& options,
                       std::string_view stage);

}  // namespace espalier
