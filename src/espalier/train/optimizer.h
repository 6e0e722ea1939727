// SPDX-License-Identifier: Apache-2.0
// Optimizers: a chain of transforms of the gradients, as data. They become nodes of the step's
// graph, so that the fuse pass makes one loop of everything that happens to a parameter.
//
//   chain(clip_by_global_norm(1.0), adamw({.learning_rate = 5e-5, .weight_decay = 0.01}))
//
// Each transform maps updates to updates; the first gets the gradients, and what the last returns
// is subtracted from the parameters.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "espalier/ir/tensor.h"
#include "espalier/train/schedule.h"

namespace espalier::train {

/// Which parameters weight decay applies to: all but those that a glob of `except` matches, and
/// where `only` is set, those for which it is true.
struct DecayMask {
  std::vector<std::string> except;
  std::function<bool(std::string_view path, const Shape& shape)> only;
};

/// updates *= min(1, max_norm / (norm + 1e-6)), norm over all parameters (torch's form).
struct ClipByGlobalNorm {
  double max_norm;
};
/// Kingma and Ba, arXiv 1412.6980, in torch's form: m = b1 m + (1-b1) g, v = b2 v + (1-b2) g^2,
/// update = (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps), t counted from 1. State adam.m,
/// adam.v.
struct ScaleByAdam {
  double beta1, beta2, epsilon;
};
/// updates += weight_decay * parameter.
struct AddDecayedWeights {
  double weight_decay;
  DecayMask mask;
};
/// trace = momentum trace + g; update = trace, or g + momentum trace with Nesterov. State
/// sgd.trace.
struct ScaleByMomentum {
  double momentum;
  bool nesterov;
};
/// updates *= schedule(updates done).
struct ScaleBySchedule {
  Schedule schedule;
};

using Transform = std::variant<ClipByGlobalNorm, ScaleByAdam, AddDecayedWeights, ScaleByMomentum,
                               ScaleBySchedule>;

struct Optimizer {
  std::vector<Transform> transforms;
};

struct AdamOptions {
  Schedule learning_rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
};
struct AdamWOptions {
  Schedule learning_rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.01;
  DecayMask mask;
};
struct SgdOptions {
  Schedule learning_rate = 1e-2;
  double momentum = 0.0;
  bool nesterov = false;
};

/// The transforms of several optimizers, one after the other.
template <typename... Optimizers>
Optimizer chain(Optimizers... parts) {
  Optimizer joined;
  (joined.transforms.insert(joined.transforms.end(), parts.transforms.begin(),
                            parts.transforms.end()),
   ...);
  return joined;
}

Optimizer clip_by_global_norm(double max_norm);
Optimizer adam(const AdamOptions& options = {});
/// Loshchilov and Hutter, arXiv 1711.05101: p -= lr (adam + weight_decay p).
Optimizer adamw(const AdamWOptions& options = {});
Optimizer sgd(const SgdOptions& options = {});
Optimizer scale_by_schedule(const Schedule& schedule);

/// What the chain keeps for each trained parameter, as the beginnings of names: "adam.m.",
/// "adam.v.". All of it is f32 and zero at first.
std::vector<std::string> moment_prefixes(const Optimizer& optimizer);

/// A parameter with its gradient, both f32 of one shape.
struct Gradient {
  std::string path;
  Tensor parameter;
  Tensor gradient;
};

/// A value that lives from step to step.
struct StateUpdate {
  std::string name;
  Tensor before;  // graph input of role "state"
  Tensor after;
  double initial = 0.0;
};

struct OptimizerNodes {
  std::vector<Tensor> parameters;  // updated, in the order of the gradients
  std::vector<StateUpdate> state;
  Tensor learning_rate;  // scalar f32: the product of all schedules
};

/// sqrt of the sum of squares of all gradients, a scalar f32.
Tensor global_norm(const std::vector<Gradient>& gradients);

/// Adds the nodes of one update. `updates_done` is a scalar i64. Throws `user` when an `except`
/// glob matches no parameter, when two transforms need the same state, or when the chain has no
/// learning rate.
OptimizerNodes apply(const Optimizer& optimizer, const std::vector<Gradient>& gradients,
                     Tensor updates_done);

}  // namespace espalier::train
