// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/optimizer.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "espalier/base/error.h"
#include "espalier/base/glob.h"
#include "espalier/base/text.h"

namespace espalier::train {
namespace {

constexpr std::string_view kAdamM = "adam.m.";
constexpr std::string_view kAdamV = "adam.v.";
constexpr std::string_view kTrace = "sgd.trace.";

/// 1 - base^t for 0 <= base < 1 without cancellation: with a = -t ln(base) / 2 it is
/// 1 - exp(-2a) = 2 tanh(a) / (1 + tanh(a)). 1 - 0.999^1 keeps its 24 bits in f32.
Tensor one_minus_power(double base, Tensor t) {
  if (base == 0.0) return constant_like(t, 1.0);
  const Tensor h = tanh(t * (-0.5 * std::log(base)));
  return 2.0 * h / (1.0 + h);
}

/// What the transforms of a chain see and change.
struct Chain {
  const std::vector<Gradient>& gradients;
  std::vector<Tensor> updates;
  Tensor done;  // updates done, f32
  OptimizerNodes nodes;

  ir::Builder& builder() const { return done.builder(); }

  /// State like a parameter, zero at first.
  Tensor state_input(const std::string& name, const Tensor& like) {
    for (const StateUpdate& s : nodes.state) {
      ESPALIER_CHECK(s.name != name, ErrorKind::user, "optimizer",
                     "two transforms of the chain keep the state {}", name);
    }
    return {builder(), builder().input(name, like.type(), "state")};
  }

  void operator()(const ClipByGlobalNorm& clip) {
    std::vector<Gradient> current = gradients;
    for (size_t i = 0; i < current.size(); ++i) current[i].gradient = updates[i];
    const Tensor norm = global_norm(current);
    const Tensor factor =
        minimum(constant_like(norm, clip.max_norm) / (norm + 1e-6), constant_like(norm, 1.0));
    for (Tensor& u : updates) u = u * factor;
  }

  void operator()(const ScaleByAdam& adam) {
    const Tensor t = done + 1.0;
    const Tensor unbias_m = 1.0 / one_minus_power(adam.beta1, t);
    const Tensor unbias_v = rsqrt(one_minus_power(adam.beta2, t));
    for (size_t i = 0; i < updates.size(); ++i) {
      const Tensor g = updates[i];
      const std::string m_name = std::string(kAdamM) + gradients[i].path;
      const std::string v_name = std::string(kAdamV) + gradients[i].path;
      const Tensor m = state_input(m_name, g);
      const Tensor v = state_input(v_name, g);
      const Tensor m_now = m * adam.beta1 + g * (1.0 - adam.beta1);
      const Tensor v_now = v * adam.beta2 + g * g * (1.0 - adam.beta2);
      updates[i] = m_now * unbias_m / (sqrt(v_now) * unbias_v + adam.epsilon);
      nodes.state.push_back({m_name, m, m_now});
      nodes.state.push_back({v_name, v, v_now});
    }
  }

  void operator()(const AddDecayedWeights& decay) {
    std::vector<std::string> paths;
    for (const Gradient& g : gradients) paths.push_back(g.path);
    std::vector<Glob> except;
    for (const std::string& pattern : decay.mask.except) {
      except.emplace_back(pattern);
      const bool hit = std::any_of(paths.begin(), paths.end(), [&](const std::string& path) {
        return except.back().matches(path);
      });
      ESPALIER_CHECK(hit, ErrorKind::user, "optimizer",
                     "decay mask \"{}\" matched 0 of {} parameters{}", pattern, paths.size(),
                     nearest_hint(pattern, paths));
    }
    for (size_t i = 0; i < updates.size(); ++i) {
      const Tensor& parameter = gradients[i].parameter;
      const bool excepted = std::any_of(except.begin(), except.end(),
                                        [&](const Glob& glob) { return glob.matches(paths[i]); });
      const bool wanted = !decay.mask.only || decay.mask.only(paths[i], parameter.shape());
      if (wanted && !excepted) updates[i] = updates[i] + parameter * decay.weight_decay;
    }
  }

  void operator()(const ScaleByMomentum& sgd) {
    for (size_t i = 0; i < updates.size(); ++i) {
      const std::string name = std::string(kTrace) + gradients[i].path;
      const Tensor trace = state_input(name, updates[i]);
      const Tensor now = trace * sgd.momentum + updates[i];
      updates[i] = sgd.nesterov ? updates[i] + now * sgd.momentum : now;
      nodes.state.push_back({name, trace, now});
    }
  }

  void operator()(const ScaleBySchedule& scale) {
    const Tensor factor = scale.schedule.at(done);
    for (Tensor& u : updates) u = u * factor;
    nodes.learning_rate = nodes.learning_rate.defined() ? nodes.learning_rate * factor : factor;
  }
};

void check_beta(std::string_view what, double value) {
  ESPALIER_CHECK(value >= 0.0 && value < 1.0, ErrorKind::user, "optimizer",
                 "{} = {} is outside [0, 1)", what, value);
}

}  // namespace

Optimizer clip_by_global_norm(double max_norm) {
  ESPALIER_CHECK(max_norm > 0.0, ErrorKind::user, "optimizer",
                 "the largest norm must be positive, got {}", max_norm);
  return {{ClipByGlobalNorm{max_norm}}};
}

Optimizer adam(const AdamOptions& options) {
  check_beta("beta1", options.beta1);
  check_beta("beta2", options.beta2);
  return {{ScaleByAdam{options.beta1, options.beta2, options.epsilon},
           ScaleBySchedule{options.learning_rate}}};
}

Optimizer adamw(const AdamWOptions& options) {
  check_beta("beta1", options.beta1);
  check_beta("beta2", options.beta2);
  Optimizer result{{ScaleByAdam{options.beta1, options.beta2, options.epsilon}}};
  if (options.weight_decay != 0.0) {
    result.transforms.emplace_back(AddDecayedWeights{options.weight_decay, options.mask});
  }
  result.transforms.emplace_back(ScaleBySchedule{options.learning_rate});
  return result;
}

Optimizer sgd(const SgdOptions& options) {
  check_beta("momentum", options.momentum);
  Optimizer result;
  if (options.momentum != 0.0) {
    result.transforms.emplace_back(ScaleByMomentum{options.momentum, options.nesterov});
  }
  result.transforms.emplace_back(ScaleBySchedule{options.learning_rate});
  return result;
}

Optimizer scale_by_schedule(const Schedule& schedule) { return {{ScaleBySchedule{schedule}}}; }

std::vector<std::string> moment_prefixes(const Optimizer& optimizer) {
  std::vector<std::string> prefixes;
  for (const Transform& transform : optimizer.transforms) {
    if (std::holds_alternative<ScaleByAdam>(transform)) {
      prefixes.insert(prefixes.end(), {std::string(kAdamM), std::string(kAdamV)});
    } else if (std::holds_alternative<ScaleByMomentum>(transform)) {
      prefixes.emplace_back(kTrace);
    }
  }
  return prefixes;
}

Tensor global_norm(const std::vector<Gradient>& gradients) {
  ESPALIER_CHECK(!gradients.empty(), ErrorKind::user, "optimizer", "there are no gradients");
  Tensor sum;
  for (const Gradient& g : gradients) {
    std::vector<int64_t> axes(static_cast<size_t>(g.gradient.rank()));
    std::iota(axes.begin(), axes.end(), 0);
    const Tensor squares = reduce_sum(g.gradient * g.gradient, axes);
    sum = sum.defined() ? sum + squares : squares;
  }
  return sqrt(sum);
}

OptimizerNodes apply(const Optimizer& optimizer, const std::vector<Gradient>& gradients,
                     Tensor updates_done) {
  Chain chain{gradients, {}, convert(updates_done, DType::f32), {}};
  for (const Gradient& g : gradients) {
    ESPALIER_CHECK(g.parameter.type() == g.gradient.type() && g.parameter.dtype() == DType::f32,
                   ErrorKind::user, "optimizer",
                   "parameters are kept in f32, got {} with gradient {} at {}",
                   g.parameter.type().str(), g.gradient.type().str(), g.path);
    chain.updates.push_back(g.gradient);
  }
  for (const Transform& transform : optimizer.transforms) std::visit(chain, transform);
  ESPALIER_CHECK(chain.nodes.learning_rate.defined(), ErrorKind::user, "optimizer",
                 "the chain has no learning rate; end it with adam, adamw, sgd or "
                 "scale_by_schedule");
  for (size_t i = 0; i < gradients.size(); ++i) {
    chain.nodes.parameters.push_back(gradients[i].parameter - chain.updates[i]);
  }
  return std::move(chain.nodes);
}

}  // namespace espalier::train
