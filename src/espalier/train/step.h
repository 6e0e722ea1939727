// SPDX-License-Identifier: Apache-2.0
// Steps: a traced graph over the parameters of a module, with the state it keeps between runs.
//
//   auto step = make_train_step(model, loss, adam({.learning_rate = 1e-3}), options);
//   step.initialize(seed);
//   step.set_batch("bytes", data);
//   step.run();
//
// Names of graph inputs and outputs, which a checkpoint builds on:
//   param.PATH         a parameter, f32 (input and, in a train step, output in its place)
//   adam.m.PATH, ...   what the optimizer keeps, see optimizer.h
//   step, seed         i64 scalars: steps done, and where all random numbers come from
//   updates            i64 scalar, with loss scaling only: steps whose update was applied
//   part               i64 scalar, with accumulation only: which part of the batch this run is
//   sum.NAME           with accumulation only: totals over the parts so far; no checkpoint has them
//   loss_scale, good_steps   with loss scaling only
//   batch.NAME         inputs set for each run
//   loss, loss.count, learning_rate, grad_norm, metric.NAME.sum, metric.NAME.count, hook.NAME,
//   grad.PATH          outputs
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "espalier/backend/executable.h"
#include "espalier/nn/context.h"
#include "espalier/nn/module.h"
#include "espalier/train/optimizer.h"

namespace espalier::train {

/// What a loss function traces with.
struct Trace {
  ir::Builder& builder;
  nn::Context context;
  /// Graph input "batch.NAME".
  Tensor batch(std::string_view name, DType dtype, Shape shape) const;
};

/// A total with the number of things it is over, so that batches combine.
struct Metric {
  std::string name;
  Tensor sum, count;  // scalars
};

struct Loss {
  Tensor value;  // f32 scalar
  std::vector<Metric> metrics;
  /// How many things `value` is the mean over, an f32 scalar: the weight of a batch among others.
  /// Undefined: all batches weigh the same.
  Tensor count = {};
  Loss(Tensor value, std::vector<Metric> metrics = {})  // NOLINT(google-explicit-constructor)
      : value(value), metrics(std::move(metrics)) {}
  /// sum / count; 0 where there is nothing to count.
  static Loss mean_over(Tensor sum, Tensor count, std::vector<Metric> metrics = {});
};

/// Results of a forward step: name and value.
using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

struct StepOptions {
  CompileOptions compile;
  /// Globs of activations to return as hook.NAME.
  std::vector<std::string> hooks;
  /// Output grad_norm: the norm of all gradients before clipping.
  bool grad_norm = false;
  /// Output grad.PATH of every trained parameter.
  bool gradients = false;
  /// Leave out parameters that no result depends on. Forward steps only.
  bool used_parameters_only = false;
  /// Scale the loss so that f16 gradients stay in range (Micikevicius et al., arXiv 1710.03740):
  /// starts at 2^15, doubles after 2,000 good steps in a row, halves when a gradient is not
  /// finite, and such a step changes neither parameters nor optimizer state. Off for other types.
  bool loss_scaling = true;
  /// Cuts a batch into this many parts that run one after the other, so that only one has to fit
  /// into memory. The loss function sees a part; batch inputs are given as all parts in a row. The
  /// gradient is that of the mean over the whole batch (parts weigh as Loss::count says), and
  /// random draws are those of the whole batch, so the cut changes no more than the order of sums.
  int64_t accumulate = 1;
};

/// One value that a step keeps.
struct StateSlot {
  std::string name;  // of the graph input
  ir::TensorType type;
  double initial = 0.0;  // of every element, where path is empty
  std::string path;      // of the parameter that this is, else empty
  nn::Init init;         // of that parameter
};

class Step {
 public:
  /// What follows the parts of a batch: the update, from the totals.
  struct Accumulation {
    int64_t parts = 1;
    ir::Graph update;
  };
  Step(ir::Graph graph, std::vector<StateSlot> slots, CompileOptions options,
       std::optional<Accumulation> accumulation = {});

  /// The whole step; with accumulation what runs for each part.
  const ir::Graph& graph() const { return graph_; }
  const std::vector<StateSlot>& slots() const { return slots_; }
  const CompileOptions& options() const { return options_; }
  /// What follows the parts of a batch; null without accumulation.
  const ir::Graph* update() const { return accumulation_ ? &accumulation_->update : nullptr; }
  /// How many parts a batch is cut into; batch inputs hold that many in a row.
  int64_t parts() const { return accumulation_ ? accumulation_->parts : 1; }

  /// Makes the executable; its state is zero until `initialize` or until it is written to.
  void compile();
  /// The same over the state of a compiled step: what both keep is in the memory of `other`.
  void compile_over(Step& other);
  /// The same over values of all parameters that never change, by path, in the dtypes of the slots:
  /// they stay where they are, and `packed` holds them in the layouts of kernels for every step
  /// that is compiled with it.
  void compile_on(const std::map<std::string, HostTensor>& values,
                  std::shared_ptr<PackedWeights> packed);
  /// Throws `user` before `compile`.
  Executable& executable();

  /// Parameters from their initializers, other state from its start, seed from `seed`. Compiles
  /// first where that has not been done.
  void initialize(uint64_t seed);

  /// Views of what the executable keeps. Throws `user` with the nearest name.
  HostTensor parameter(std::string_view path);
  HostTensor state(std::string_view name) { return executable().state(name); }
  /// All parameters by path, and all other state by name.
  std::map<std::string, HostTensor> parameters();
  std::map<std::string, HostTensor> other_state();
  /// Copies values into a parameter, converting the dtype. Throws `user` when shapes differ.
  void set_parameter(std::string_view path, const HostTensor& values);
  /// Copies the parameters of another step over the same module.
  void copy_parameters(Step& from);

  int64_t steps_done();
  /// Where batch input NAME is read from at the next runs; see Executable::set_input.
  void set_batch(std::string_view name, const void* data);
  void run() { executable().run(); }
  /// A scalar output of the last run, as a double.
  double scalar(std::string_view name) { return executable().output(name).get(0); }
  double loss() { return scalar("loss"); }

 private:
  std::vector<const ir::Graph*> graphs() const;
  void compile_with(const StateViews& shared);

  ir::Graph graph_;
  std::vector<StateSlot> slots_;
  CompileOptions options_;
  std::optional<Accumulation> accumulation_;
  std::unique_ptr<Executable> executable_;
  std::vector<std::pair<std::string, int32_t>> batch_;  // names and indices that were asked for
};

namespace detail {
/// A parameter as the builder of a step sees it.
struct ParamInfo {
  std::string path;
  ir::TensorType type;
  nn::Init init;
  bool trainable;
};
std::vector<ParamInfo> params_of(const std::vector<nn::LeafEntry>& leaves);
/// Binds the module to the builder and traces.
using TraceLoss = std::function<Loss(const Trace&)>;
using TraceForward = std::function<NamedTensors(const Trace&)>;

Step train_step(const std::vector<ParamInfo>& params, const TraceLoss& loss,
                const Optimizer& optimizer, const StepOptions& options);
Step forward_step(const std::vector<ParamInfo>& params, const TraceForward& forward,
                  const StepOptions& options);
ir::Graph traced_loss(const TraceLoss& loss);
NamedTensors named(const Loss& loss);

}  // namespace detail

/// Traces forward, loss, gradients and update into one graph.
/// loss(const M& model, const Trace& trace), or a member function of M, returns a scalar Tensor or
/// a Loss; dropout is on. Parameters with trainable = false, and those the loss does not use, stay
/// as they are.
template <typename M, typename LossFn>
Step make_train_step(M model, const LossFn& loss, const Optimizer& optimizer,
                     const StepOptions& options = {}) {
  return detail::train_step(
      detail::params_of(nn::leaves_of(model)),
      [&](const Trace& trace) -> Loss {
        nn::bind(model, trace.builder);
        return std::invoke(loss, std::as_const(model), trace);
      },
      optimizer, options);
}

/// The forward graph of make_train_step as the model's code writes it, before any pass.
template <typename M, typename LossFn>
ir::Graph trace_loss(M model, const LossFn& loss) {
  return detail::traced_loss([&](const Trace& trace) -> Loss {
    nn::bind(model, trace.builder);
    return std::invoke(loss, std::as_const(model), trace);
  });
}

/// The loss and its metrics without dropout; changes no state.
template <typename M, typename LossFn>
Step make_eval_step(M model, const LossFn& loss, const StepOptions& options = {}) {
  return detail::forward_step(
      detail::params_of(nn::leaves_of(model)),
      [&](const Trace& trace) {
        nn::bind(model, trace.builder);
        return detail::named(std::invoke(loss, std::as_const(model), trace));
      },
      options);
}

/// Any results without dropout: forward(const M& model, const Trace& trace) -> NamedTensors.
template <typename M, typename ForwardFn>
Step make_forward(M model, const ForwardFn& forward, const StepOptions& options = {}) {
  return detail::forward_step(
      detail::params_of(nn::leaves_of(model)),
      [&](const Trace& trace) -> NamedTensors {
        nn::bind(model, trace.builder);
        return std::invoke(forward, std::as_const(model), trace);
      },
      options);
}

/// Copies element by element, converting the dtype; shapes must agree.
void copy_values(const HostTensor& from, HostTensor to, std::string_view what);

}  // namespace espalier::train
