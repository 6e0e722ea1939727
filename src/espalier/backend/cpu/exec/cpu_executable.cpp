// SPDX-License-Identifier: Apache-2.0
#include "espalier/backend/cpu/exec/cpu_executable.h"

#include <omp.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <unordered_map>
#include <utility>

#include "espalier/backend/cpu/cpu_info.h"
#include "espalier/backend/cpu/exec/kernel.h"
#include "espalier/backend/cpu/exec/program_memory.h"
#include "espalier/base/error.h"
#include "espalier/base/text.h"
#include "espalier/passes/pass.h"
#include "espalier/plan/program.h"

namespace espalier::cpu {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

class CpuExecutable final : public Executable {
 public:
  CpuExecutable(const ir::Graph& graph, const CompileOptions& options, const StateViews& shared,
                std::shared_ptr<PackedWeights> packed)
      : threads_(thread_count(options.threads)),
        jit_({.cache_dir = options.cache_dir}),
        shared_packed_(std::move(packed)) {
    const auto start = Clock::now();
    omp_set_num_threads(threads_);
    const ir::Graph fused = passes::run_passes(passes::step_passes(), graph, pass_options(options));
    stats_.pass_seconds = seconds_since(start);
    program_ = plan::build_program(fused);
    std::map<int32_t, HostTensor> borrowed = borrow(shared);
    const auto kernels_start = Clock::now();
    make_kernels();
    stats_.kernel_seconds = seconds_since(kernels_start);
    for (size_t s = 0; s < kernels_.size(); ++s) {
      program_.steps[s].scratch_bytes = kernels_[s]->scratch_bytes();
      program_.steps[s].packed_bytes = kernels_[s]->packed_bytes();
      program_.steps[s].packed_shared = shared_packed_ != nullptr;
    }
    plan::plan_memory(program_);
    stats_.arena_bytes = program_.arena_bytes;
    stats_.peak_live_bytes = program_.peak_live_bytes;
    stats_.state_bytes = program_.state_bytes;
    stats_.predicted_bytes = program_.arena_bytes + program_.state_bytes;
    memory_ = std::make_unique<ProgramMemory>(program_, std::move(borrowed));
    find_packed();
    for (const auto& [name, buffer] : program_.inputs) {
      input_indices_.emplace(name, static_cast<int32_t>(input_names_.size()));
      input_names_.push_back(name);
      const plan::BufferKind kind = program_.buffers[static_cast<size_t>(buffer)].kind;
      inputs_.push_back({.buffer = buffer, .external = kind == plan::BufferKind::external});
    }
    for (const auto& [name, location] : program_.outputs) outputs_.emplace_back(name, &location);
    find_readers();
    seconds_.assign(kernels_.size(), 0.0);
    started_.assign(kernels_.size(), 0.0);
    spent_.assign(kernels_.size(), 0.0);
    stats_.seconds = seconds_since(start);
  }

  int32_t input_index(std::string_view name) const override {
    const auto found = input_indices_.find(std::string(name));
    if (found != input_indices_.end()) return found->second;
    fail(ErrorKind::user, "executable", "no input \"{}\"{}", name,
         nearest_hint(name, input_names_));
  }

  void set_input(int32_t index, const void* data) override {
    const Input& input = inputs_[static_cast<size_t>(index)];
    ESPALIER_CHECK(input.external, ErrorKind::user, "executable",
                   "{} is state: write to state(\"{}\")", input_names_[static_cast<size_t>(index)],
                   input_names_[static_cast<size_t>(index)]);
    if (!memory_->set_external(input.buffer, data) || !bound_) return;
    for (const size_t s : input.readers) moved_.push_back(s);
  }

  HostTensor state(std::string_view name) override {
    const std::string& key = input_names_[static_cast<size_t>(input_index(name))];
    const int32_t buffer = program_.inputs.at(key);
    ESPALIER_CHECK(program_.buffers[static_cast<size_t>(buffer)].kind == plan::BufferKind::state,
                   ErrorKind::user, "executable", "{} is a batch input, not state", name);
    repack_ = true;
    const ir::TensorType& type = program_.input_types.at(key);
    return memory_->state(buffer, type);
  }

  HostTensor output(std::string_view name) const override {
    const auto found = std::find_if(outputs_.begin(), outputs_.end(),
                                    [&](const auto& output) { return output.first == name; });
    if (found == outputs_.end()) {
      std::vector<std::string> names;
      for (const auto& [key, location] : outputs_) names.push_back(key);
      fail(ErrorKind::user, "executable", "no output \"{}\"{}", name, nearest_hint(name, names));
    }
    const plan::Location& location = *found->second;
    ESPALIER_CHECK(location.view.is_contiguous(), ErrorKind::internal, "executable",
                   "output {} is not contiguous", name);
    return {location.dtype, location.view.shape, memory_->at(location), nullptr};
  }

  void run() override {
    const auto start = Clock::now();
    bind();
    const double begin = seconds_since(start);
    double in_kernels = 0.0;
    double now = begin;
    for (size_t s = 0; s < kernels_.size(); ++s) {
      kernels_[s]->run();
      const double after = seconds_since(start);
      spent_[s] = after - now;
      in_kernels += after - now;
      started_[s] = now;
      now = after;
    }
    if (profiling_) {
      ++profiled_runs_;
      for (size_t s = 0; s < kernels_.size(); ++s) seconds_[s] += spent_[s];
    }
    host_seconds_ = seconds_since(start) - in_kernels;
  }

  void rest() override { memory_->release_arena(); }

  const CompileStats& stats() const override { return stats_; }
  double host_seconds_last_run() const override { return host_seconds_; }
  void set_profiling(bool on) override { profiling_ = on; }

  std::vector<ProfileRow> profile() const override {
    std::vector<ProfileRow> rows;
    for (size_t s = 0; s < kernels_.size(); ++s) {
      const plan::Step& step = program_.steps[s];
      ProfileRow row;
      row.kind = plan::name(step.kind);
      row.label = step.label + " " + kernels_[s]->describe();
      row.calls = profiled_runs_;
      row.seconds = seconds_[s];
      row.flops = kernels_[s]->flops() * static_cast<double>(profiled_runs_);
      for (const auto* list : {&step.inputs, &step.outputs}) {
        for (const plan::Location& l : *list) {
          row.bytes += static_cast<double>(l.view.shape.numel() * size_of(l.dtype)) *
                       static_cast<double>(profiled_runs_);
        }
      }
      rows.push_back(std::move(row));
    }
    return rows;
  }

  std::vector<ProfileEvent> last_events() const override {
    std::vector<ProfileEvent> events;
    for (size_t s = 0; s < kernels_.size(); ++s) {
      events.push_back({static_cast<int32_t>(s), started_[s], spent_[s]});
    }
    return events;
  }

 private:
  /// Marks the state that is another executable's, by buffer.
  std::map<int32_t, HostTensor> borrow(const StateViews& shared) {
    std::map<int32_t, HostTensor> borrowed;
    for (const auto& [name, id] : program_.inputs) {
      plan::Buffer& buffer = program_.buffers[static_cast<size_t>(id)];
      const auto found = shared.find(name);
      if (buffer.kind != plan::BufferKind::state || found == shared.end()) continue;
      check_shared(name, program_.input_types.at(name), found->second);
      buffer.borrowed = true;
      borrowed.emplace(id, found->second);
    }
    return borrowed;
  }

  /// Which operands are packed, and where.
  void find_packed() {
    std::map<std::string, int64_t> wanted;
    for (size_t s = 0; s < kernels_.size(); ++s) {
      const plan::Step& step = program_.steps[s];
      if (step.packed < 0) continue;
      // A swiglu has two weights.
      const size_t weights = step.attrs.text_or(ir::Attr::activation, "") == "swiglu" ? 2 : 1;
      std::string key;
      std::vector<std::string> inputs;
      for (size_t i = 1; i <= weights; ++i) {
        const plan::Location& l = step.inputs[i];
        inputs.push_back(program_.buffers[static_cast<size_t>(program_.root(l.buffer))].label);
        key += fmt::format("{} {}+{}, ", inputs.back(), espalier::name(l.dtype), l.view.offset);
      }
      key += kernels_[s]->packed_layout();
      if (shared_packed_) wanted[key] = step.packed_bytes;
      packed_.push_back({s, std::move(key), std::move(inputs), false});
    }
    if (!shared_packed_) return;
    const auto places = shared_packed_->places(wanted);
    for (Packed& p : packed_) {
      const plan::Step& step = program_.steps[p.step];
      memory_->set_external(step.packed, places.at(p.key).data);
      p.ready = places.at(p.key).ready;
      stats_.packed_bytes += step.packed_bytes;
    }
    stats_.predicted_bytes += stats_.packed_bytes;
  }

  /// Fills what is packed. Weights that two kernels share are packed once.
  void pack() {
    std::vector<Packed*> missing;
    std::map<std::string, const Packed*> first;
    int64_t scratch_bytes = 0;
    for (Packed& p : packed_) {
      if (shared_packed_ && (p.ready || !first.emplace(p.key, &p).second)) continue;
      missing.push_back(&p);
      scratch_bytes = std::max(scratch_bytes, kernels_[p.step]->pack_scratch_bytes());
    }
    scratch_bytes = (scratch_bytes + 63) / 64 * 64;
    const MemoryBlock scratch(scratch_bytes * threads_, "packing");
#pragma omp parallel for schedule(dynamic) num_threads(threads_)
    for (size_t i = 0; i < missing.size(); ++i) {
      kernels_[missing[i]->step]->pack(scratch.data() + scratch_bytes * omp_get_thread_num());
      if (!shared_packed_) continue;
      for (const std::string& input : missing[i]->inputs) shared_packed_->done(input);
    }
    if (!shared_packed_) return;
    for (Packed& p : packed_) {
      shared_packed_->set_ready(p.key);
      p.ready = true;
    }
  }

  void make_kernels() {
    std::vector<plan::Loop> loops;
    for (const plan::Step& step : program_.steps) {
      if (step.kind == plan::StepKind::loop) loops.push_back(step.loop.loop);
    }
    const std::vector<LoopFn> functions = jit_.compile(loops);
    const JitStats jit = jit_.stats();
    stats_.loops = jit.loops;
    stats_.distinct_loops = jit.compiled + jit.from_cache;
    stats_.loops_from_cache = jit.from_cache;
    size_t next = 0;
    for (const plan::Step& step : program_.steps) {
      ESPALIER_CONTEXT("{}", step.label);
      switch (step.kind) {
        case plan::StepKind::loop:
          kernels_.push_back(make_loop_kernel(step, functions[next++], threads_));
          break;
        case plan::StepKind::matmul:
          kernels_.push_back(make_matmul_kernel(step, threads_));
          break;
        case plan::StepKind::attention:
          kernels_.push_back(make_attention_kernel(step, threads_));
          break;
        case plan::StepKind::attention_grad:
          kernels_.push_back(make_attention_grad_kernel(step, threads_));
          break;
        case plan::StepKind::gather:
          kernels_.push_back(make_gather_kernel(step, threads_));
          break;
        case plan::StepKind::scatter_add:
          kernels_.push_back(make_scatter_add_kernel(step, threads_));
          break;
      }
    }
  }

  /// Which steps read each batch input.
  void find_readers() {
    size_t all = 0;
    for (Input& input : inputs_) {
      if (!input.external) continue;
      for (size_t s = 0; s < program_.steps.size(); ++s) {
        const auto& read = program_.steps[s].inputs;
        const bool reads = std::any_of(read.begin(), read.end(), [&](const plan::Location& l) {
          return program_.root(l.buffer) == program_.root(input.buffer);
        });
        if (reads) input.readers.push_back(s);
      }
      all += input.readers.size();
    }
    moved_.reserve(2 * all);
  }

  void bind_step(size_t s) {
    const plan::Step& step = program_.steps[s];
    kernels_[s]->bind(step, *memory_, step.scratch >= 0 ? memory_->buffer(step.scratch) : nullptr);
  }

  /// All steps once; later only those that read a batch input that has moved.
  void bind() {
    if (!bound_) {
      omp_set_num_threads(threads_);
      for (const auto& [name, buffer] : program_.inputs) {
        ESPALIER_CHECK(memory_->buffer(buffer) != nullptr ||
                           program_.buffers[static_cast<size_t>(buffer)].bytes == 0,
                       ErrorKind::user, "executable", "input {} has not been set", name);
      }
      for (size_t s = 0; s < kernels_.size(); ++s) bind_step(s);
      bound_ = true;
    }
    for (const size_t s : moved_) bind_step(s);
    moved_.clear();
    if (repack_) {
      pack();
      repack_ = false;
    }
  }

  int threads_;
  LoopCompiler jit_;
  std::shared_ptr<PackedWeights> shared_packed_;
  CompileStats stats_;
  plan::Program program_;
  std::vector<std::unique_ptr<Kernel>> kernels_;
  std::unique_ptr<ProgramMemory> memory_;
  /// An operand that is packed once.
  struct Packed {
    size_t step;
    std::string key;                  // of PackedWeights
    std::vector<std::string> inputs;  // of the graph, which it is made of
    bool ready;
  };
  std::vector<Packed> packed_;
  std::vector<std::string> input_names_;
  std::unordered_map<std::string, int32_t> input_indices_;  // of input_names_
  /// By index. What every step needs lies close together: its caches are cold.
  struct Input {
    int32_t buffer;
    bool external;
    std::vector<size_t> readers;  // steps, of an external one
  };
  std::vector<Input> inputs_;
  std::vector<std::pair<std::string, const plan::Location*>> outputs_;
  bool bound_ = false;
  std::vector<size_t> moved_;  // steps to bind again
  bool repack_ = true;         // state may have been written from outside
  bool profiling_ = false;
  int64_t profiled_runs_ = 0;
  std::vector<double> seconds_, started_, spent_;
  double host_seconds_ = 0.0;
};

}  // namespace

passes::PassOptions pass_options(const CompileOptions& options) {
  return {.compute_dtype = options.compute_dtype,
          .fuse = options.fuse,
          .flash = options.flash,
          // Elsewhere another kernel multiplies, which has no such product.
          .gated = cpu_info().isa == Isa::avx2,
          .remat = options.remat,
          .disabled = options.disabled_passes};
}

std::unique_ptr<Executable> make_cpu_executable(const ir::Graph& graph,
                                                const CompileOptions& options,
                                                const StateViews& shared,
                                                std::shared_ptr<PackedWeights> packed) {
  return std::make_unique<CpuExecutable>(graph, options, shared, std::move(packed));
}

}  // namespace espalier::cpu
