// SPDX-License-Identifier: Apache-2.0
// Builds the graphs of steps: trace -> canonical passes -> gradients -> update.
#include <algorithm>
#include <limits>
#include <optional>

#include "espalier/autodiff/grad.h"
#include "espalier/base/error.h"
#include "espalier/base/glob.h"
#include "espalier/passes/pass.h"
#include "espalier/train/step.h"

namespace espalier::train::detail {
namespace {

using ir::Attr;
using ir::Op;

constexpr double kFirstLossScale = 32768.0;
constexpr double kLargestLossScale = 16777216.0;
constexpr int64_t kGoodStepsToDouble = 2000;

/// Inputs that a traced graph starts with.
Trace start_trace(ir::Builder& builder, bool training, int64_t parts, nn::Hooks* hooks) {
  nn::Context context{.training = training, .rng = {}, .hooks = hooks};
  if (training) {
    context.rng.seed = {builder, builder.input("seed", {DType::i64, {}}, "state")};
    context.rng.step = {builder, builder.input("step", {DType::i64, {}}, "state")};
    if (parts > 1) context.rng.part = {builder, builder.input("part", {DType::i64, {}}, "batch")};
  }
  return {builder, context};
}

ir::Graph trace(const TraceForward& forward, bool training, const StepOptions& options) {
  ir::Builder builder("forward");
  nn::Hooks hooks(options.hooks);
  const Trace start = start_trace(builder, training, options.accumulate, &hooks);
  for (const auto& [name, value] : forward(start)) builder.output(name, value.value());
  hooks.check_all_matched();
  for (const auto& [name, value] : hooks.found()) builder.output("hook." + name, value.value());
  return passes::canonicalize(builder.finish(), {.compute_dtype = options.compile.compute_dtype,
                                                 .fuse = options.compile.fuse,
                                                 .flash = options.compile.flash,
                                                 .remat = options.compile.remat,
                                                 .disabled = options.compile.disabled_passes});
}

/// Without the parameters that nothing reads.
ir::Graph used_only(const ir::Graph& graph) {
  const std::vector<int32_t> uses = graph.use_counts();
  ir::Builder builder(graph.name());
  ir::Rewriter rewriter(graph, builder);
  for (size_t i = 0; i < graph.nodes().size(); ++i) {
    const ir::Node& node = graph.nodes()[i];
    const bool parameter = node.op == Op::input && node.attrs.text(Attr::role) == "parameter";
    if (!parameter || uses[i] > 0) rewriter.copy(static_cast<int32_t>(i));
  }
  rewriter.copy_outputs();
  return builder.finish();
}

StateSlot parameter_slot(const ParamInfo& p) {
  return {.name = nn::input_name(p.path), .type = p.type, .path = p.path, .init = p.init};
}

/// A copy of a traced graph that grows.
class Extension {
 public:
  Extension(const ir::Graph& forward, ir::Builder& out) : out_(out) {
    ir::Rewriter rewriter(forward, out);
    for (size_t i = 0; i < forward.nodes().size(); ++i) {
      const ir::Value copy = rewriter.copy(static_cast<int32_t>(i));
      const ir::Node& node = forward.nodes()[i];
      if (node.op == Op::input) inputs_.emplace(node.attrs.text(Attr::name), copy);
    }
    out.set_scope("");
    for (const ir::Output& output : forward.outputs()) {
      outputs_.emplace_back(output.name, Tensor(out, rewriter[output.value]));
    }
  }

  /// The input of that name; made where no pass left one.
  Tensor input(const std::string& name, const ir::TensorType& type, const std::string& role) {
    auto at = inputs_.find(name);
    if (at == inputs_.end()) at = inputs_.emplace(name, out_.input(name, type, role)).first;
    return {out_, at->second};
  }
  bool has_input(const std::string& name) const { return inputs_.contains(name); }
  bool has_output(std::string_view name) const {
    return std::any_of(outputs_.begin(), outputs_.end(),
                       [&](const auto& output) { return output.first == name; });
  }
  const NamedTensors& outputs() const { return outputs_; }
  Tensor output(std::string_view name) const {
    for (const auto& [at, value] : outputs_) {
      if (at == name) return value;
    }
    fail(ErrorKind::internal, "train", "the traced graph has no output {}", name);
  }

 private:
  ir::Builder& out_;
  std::map<std::string, ir::Value> inputs_;
  NamedTensors outputs_;
};

/// State of dynamic loss scaling and what it decides.
struct LossScaling {
  Tensor scale, good_steps, updates;  // inputs
  Tensor finite;                      // bool scalar, known once there are gradients

  Tensor keep_if_finite(Tensor after, Tensor before) const {
    return select(broadcast_to(finite, after.shape()), after, before);
  }

  std::vector<StateUpdate> next() const {
    const Tensor good = good_steps + 1.0;
    const Tensor full = compare(Op::ge, good, constant_like(good, kGoodStepsToDouble));
    const Tensor zero = constant_like(good, 0.0);
    const Tensor doubled = minimum(scale * 2.0, constant_like(scale, kLargestLossScale));
    const Tensor halved = maximum(scale * 0.5, constant_like(scale, 1.0));
    return {
        {"loss_scale", scale, select(finite, select(full, doubled, scale), halved),
         kFirstLossScale},
        {"good_steps", good_steps, select(finite, select(full, zero, good), zero)},
        {"updates", updates, select(finite, updates + 1.0, updates)},
    };
  }
};

/// Throws `user` for a glob of --remat that names no scope of the forward pass.
void check_remat(const ir::Graph& forward, const std::vector<std::string>& patterns) {
  if (patterns.empty()) return;
  std::vector<std::string> scopes;
  for (const ir::Node& node : forward.nodes()) {
    if (ir::has_trait(node.op, ir::kLeaf) || node.scope->empty()) continue;
    if (std::find(scopes.begin(), scopes.end(), *node.scope) == scopes.end()) {
      scopes.push_back(node.scope);
    }
  }
  for (const std::string& pattern : patterns) {
    const Glob glob(pattern);
    const bool hit = std::any_of(scopes.begin(), scopes.end(),
                                 [&](const std::string& scope) { return glob.matches(scope); });
    ESPALIER_CHECK(hit, ErrorKind::user, "remat",
                   "\"{}\" matches none of the {} scopes of the forward pass{}", pattern,
                   scopes.size(), glob.nearest_hint(scopes));
  }
}

/// Which nodes the value is computed from.
std::vector<bool> ancestors(const ir::Graph& graph, ir::Value value) {
  std::vector<bool> found(graph.nodes().size(), false);
  found[static_cast<size_t>(value.node)] = true;
  for (size_t i = found.size(); i-- > 0;) {
    if (!found[i]) continue;
    for (ir::Value v : graph.nodes()[i].inputs) found[static_cast<size_t>(v.node)] = true;
  }
  return found;
}

std::vector<Gradient> take_gradients(const std::vector<ParamInfo>& params, Extension& graph,
                                     ir::Builder& builder, Tensor loss) {
  std::vector<Gradient> result;
  std::vector<ir::Value> wrt;
  const std::vector<bool> used = ancestors(builder.graph(), loss.value());
  for (const ParamInfo& p : params) {
    const std::string name = nn::input_name(p.path);
    if (!p.trainable || !graph.has_input(name)) continue;
    const Tensor parameter = graph.input(name, p.type, "parameter");
    if (!used[static_cast<size_t>(parameter.value().node)]) continue;
    result.push_back({p.path, parameter, {}});
    wrt.push_back(result.back().parameter.value());
  }
  const auto trainable =
      std::count_if(params.begin(), params.end(), [](const ParamInfo& p) { return p.trainable; });
  ESPALIER_CHECK(trainable > 0, ErrorKind::user, "train",
                 "all {} parameters are frozen, so there is nothing to train", params.size());
  ESPALIER_CHECK(!result.empty(), ErrorKind::user, "train",
                 "the loss uses none of the {} parameters that can be trained", trainable);
  const std::vector<ir::Value> gradients = autodiff::gradients(builder, loss.value(), wrt);
  for (size_t i = 0; i < result.size(); ++i) result[i].gradient = {builder, gradients[i]};
  builder.set_scope("");
  return result;
}

const ir::TensorType kCounter{DType::i64, {}};
const ir::TensorType kReal{DType::f32, {}};

/// The inputs that dynamic loss scaling reads; nothing where it is off.
std::optional<LossScaling> start_scaling(const StepOptions& options, ir::Builder& builder) {
  if (!options.loss_scaling || options.compile.compute_dtype != DType::f16) return std::nullopt;
  const auto input = [&](const char* name, const ir::TensorType& type) {
    return Tensor(builder, builder.input(name, type, "state"));
  };
  return LossScaling{
      input("loss_scale", kReal), input("good_steps", kCounter), input("updates", kCounter), {}};
}

/// Results of a batch before its update.
struct Results {
  std::vector<Gradient> gradients;  // of the scaled loss
  NamedTensors outputs;
  Tensor step;
};

/// Adds the update to `builder`, with all that is kept from step to step but `seed`.
std::vector<StateSlot> add_update(ir::Builder& builder, Results results,
                                  std::optional<LossScaling> scaling, const Optimizer& optimizer,
                                  const StepOptions& options) {
  ir::Builder::Scope scope(builder, "optimizer");
  std::vector<Gradient>& gradients = results.gradients;
  Tensor norm;
  if (scaling) {
    const Tensor unscale = 1.0 / scaling->scale;
    for (Gradient& g : gradients) g.gradient = g.gradient * unscale;
  }
  if (scaling || options.grad_norm) norm = global_norm(gradients);
  if (scaling) {
    // NaN compares false; a norm that overflows counts as not finite.
    constexpr double kLargest = std::numeric_limits<float>::max();
    scaling->finite = compare(Op::le, norm, constant_like(norm, kLargest));
  }
  OptimizerNodes update = apply(optimizer, gradients, scaling ? scaling->updates : results.step);

  for (const auto& [name, value] : results.outputs) builder.output(name, value.value());
  builder.output("learning_rate", update.learning_rate.value());
  if (options.grad_norm) builder.output("grad_norm", norm.value());
  if (options.gradients) {
    for (const Gradient& g : gradients) builder.output("grad." + g.path, g.gradient.value());
  }
  for (size_t i = 0; i < gradients.size(); ++i) {
    const Gradient& g = gradients[i];
    const Tensor now =
        scaling ? scaling->keep_if_finite(update.parameters[i], g.parameter) : update.parameters[i];
    builder.output(nn::input_name(g.path), now.value(), g.parameter.value());
  }
  if (scaling) {
    for (StateUpdate& s : update.state) s.after = scaling->keep_if_finite(s.after, s.before);
    for (StateUpdate& s : scaling->next()) update.state.push_back(std::move(s));
  }
  update.state.push_back({"step", results.step, results.step + 1.0});
  std::vector<StateSlot> slots;
  for (const StateUpdate& s : update.state) {
    builder.output(s.name, s.after.value(), s.before.value());
    slots.push_back(
        {.name = s.name, .type = s.before.type(), .initial = s.initial, .path = {}, .init = {}});
  }
  return slots;
}

/// Totals over the parts of a batch, which the first part starts anew: sum.NAME.
class Totals {
 public:
  Totals(ir::Builder& builder, Tensor part)
      : builder_(builder), is_first_(compare(Op::eq, part, constant_like(part, 0.0))) {}
  void add(const std::string& name, Tensor value) {
    const Tensor before(builder_, builder_.input("sum." + name, value.type(), "state"));
    const Tensor zero = constant_like(value, 0.0);
    const Tensor kept = select(broadcast_to(is_first_, value.shape()), zero, before);
    builder_.output("sum." + name, (kept + value).value(), before.value());
  }

 private:
  ir::Builder& builder_;
  Tensor is_first_;
};

/// Adds the totals of a part to its graph. The loss and its gradients are means over `loss.count`
/// things, so that many times they count.
void add_totals(ir::Builder& builder, Extension& graph, const Results& results) {
  ir::Builder::Scope scope(builder, "accumulate");
  Totals totals(builder, graph.input("part", kCounter, "batch"));
  const bool counted = graph.has_output("loss.count");
  const Tensor weight = counted ? graph.output("loss.count") : constant(builder, 1.0);
  totals.add("weight", weight);
  for (const auto& [name, value] : results.outputs) {
    if (name != "loss.count") totals.add(name, name == "loss" ? value * weight : value);
  }
  for (const Gradient& g : results.gradients) totals.add("grad." + g.path, g.gradient * weight);
}

/// What add_totals left, as means: the results of the whole batch in a graph of their own.
Results read_totals(ir::Builder& builder, const Results& part, bool counted) {
  const auto total = [&](const std::string& name, const ir::TensorType& type) {
    return Tensor(builder, builder.input("sum." + name, type, "state"));
  };
  const Tensor weight = total("weight", kReal);
  const Tensor some = compare(Op::gt, weight, constant_like(weight, 0.0));
  const Tensor mean = 1.0 / select(some, weight, constant_like(weight, 1.0));
  Results results;
  results.step = {builder, builder.input("step", kCounter, "state")};
  for (const auto& [name, value] : part.outputs) {
    if (name == "loss.count") continue;
    const Tensor sum = total(name, value.type());
    results.outputs.emplace_back(name, name == "loss" ? sum * mean : sum);
  }
  if (counted) results.outputs.emplace_back("loss.count", weight);
  for (const Gradient& g : part.gradients) {
    const std::string name = nn::input_name(g.path);
    const Tensor parameter(builder, builder.input(name, g.parameter.type(), "parameter"));
    results.gradients.push_back(
        {g.path, parameter, total("grad." + g.path, g.gradient.type()) * mean});
  }
  return results;
}

}  // namespace

NamedTensors named(const Loss& loss) {
  ESPALIER_CHECK(loss.value.shape().rank() == 0 && is_float(loss.value.dtype()), ErrorKind::user,
                 "train", "the loss is a float scalar, got {}", loss.value.type().str());
  NamedTensors result{{"loss", loss.value}};
  for (const Metric& m : loss.metrics) {
    result.emplace_back("metric." + m.name + ".sum", m.sum);
    result.emplace_back("metric." + m.name + ".count", m.count);
  }
  if (loss.count.defined()) result.emplace_back("loss.count", loss.count);
  return result;
}

ir::Graph traced_loss(const TraceLoss& loss) {
  ir::Builder builder("forward");
  const Trace start = start_trace(builder, true, 1, nullptr);
  for (const auto& [name, value] : named(loss(start))) builder.output(name, value.value());
  return builder.finish();
}

std::vector<ParamInfo> params_of(const std::vector<nn::LeafEntry>& leaves) {
  std::vector<ParamInfo> params;
  params.reserve(leaves.size());
  for (const auto& [path, p] : leaves) {
    params.push_back({path, {p->dtype, p->shape}, p->init, p->trainable});
  }
  return params;
}

Step forward_step(const std::vector<ParamInfo>& params, const TraceForward& forward,
                  const StepOptions& options) {
  ir::Graph traced = trace(forward, false, options);
  if (options.used_parameters_only) traced = used_only(traced);
  ir::Builder builder("forward");
  Extension graph(traced, builder);
  std::vector<StateSlot> slots;
  for (const ParamInfo& p : params) {
    if (options.used_parameters_only && !graph.has_input(nn::input_name(p.path))) continue;
    graph.input(nn::input_name(p.path), p.type, "parameter");
    slots.push_back(parameter_slot(p));
  }
  for (const auto& [name, value] : graph.outputs()) builder.output(name, value.value());
  return {builder.finish(), std::move(slots), options.compile};
}

Step train_step(const std::vector<ParamInfo>& params, const TraceLoss& loss_fn,
                const Optimizer& optimizer, const StepOptions& options) {
  ESPALIER_CHECK(options.accumulate >= 1, ErrorKind::user, "train",
                 "a batch cannot be cut into {} parts", options.accumulate);
  const bool parts = options.accumulate > 1;
  ESPALIER_CHECK(!parts || options.hooks.empty(), ErrorKind::unsupported, "train",
                 "activations of a batch in {} parts; use accumulate = 1 for hooks",
                 options.accumulate);
  const ir::Graph traced = trace([&](const Trace& t) { return named(loss_fn(t)); }, true, options);
  check_remat(traced, options.compile.remat);
  ir::Builder builder("train_step");
  Extension graph(traced, builder);
  Results results;
  results.step = graph.input("step", kCounter, "state");
  graph.input("seed", kCounter, "state");
  const Tensor loss = graph.output("loss");
  std::optional<LossScaling> scaling = start_scaling(options, builder);
  results.gradients =
      take_gradients(params, graph, builder, scaling ? loss * scaling->scale : loss);
  results.outputs = graph.outputs();

  std::vector<StateSlot> slots;
  for (const ParamInfo& p : params) {
    graph.input(nn::input_name(p.path), p.type, "parameter");
    slots.push_back(parameter_slot(p));
  }
  std::optional<Step::Accumulation> accumulation;
  std::vector<StateSlot> kept;
  if (parts) {
    add_totals(builder, graph, results);
    ir::Builder update("update");
    Results whole = read_totals(update, results, graph.has_output("loss.count"));
    kept = add_update(update, std::move(whole), start_scaling(options, update), optimizer, options);
    accumulation = Step::Accumulation{options.accumulate, update.finish()};
  } else {
    kept = add_update(builder, std::move(results), scaling, optimizer, options);
  }
  slots.insert(slots.end(), kept.begin(), kept.end());
  slots.push_back({.name = "seed", .type = kCounter, .path = {}, .init = {}});
  return {builder.finish(), std::move(slots), options.compile, std::move(accumulation)};
}

}  // namespace espalier::train::detail
