// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/text_steps.h"

namespace espalier::train {

Optimizer text_optimizer(const RunOptions& options) {
  const DecayMask mask{
      .except = {}, .only = [](std::string_view, const Shape& shape) { return shape.rank() >= 2; }};
  return make_optimizer(options.optimizer, options.steps, mask);
}

}  // namespace espalier::train
