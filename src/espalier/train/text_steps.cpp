// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/text_steps.h"

#include <sstream>

namespace espalier::train {

std::vector<std::string> glob_list(const std::string& text) {
  std::vector<std::string> globs;
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) globs.push_back(part);
  return globs;
}

Optimizer text_optimizer(const RunOptions& options) {
  const DecayMask mask{
      .except = {}, .only = [](std::string_view, const Shape& shape) { return shape.rank() >= 2; }};
  return make_optimizer(options.optimizer, options.steps, mask);
}

}  // namespace espalier::train
