// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/shaped_steps.h"

namespace espalier::train {

Step& ShapedSteps::at(const BatchShape& shape) {
  std::unique_ptr<Step>& step = steps_[shape];
  if (step == nullptr) {
    if (last_ != nullptr && announce_) announce_(shape);
    auto made = std::make_unique<Step>(make_(shape));
    if (state_ != nullptr) {
      made->compile_over(*state_);
    } else {
      made->compile();
      state_ = made.get();
    }
    step = std::move(made);
  }
  if (last_ != nullptr && last_ != step.get()) last_->executable().rest();
  last_ = step.get();
  return *step;
}

}  // namespace espalier::train
