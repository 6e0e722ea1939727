// SPDX-License-Identifier: Apache-2.0
// One training state and a compiled step for each shape of batch that comes along: graphs have
// static shapes, batches need not.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "espalier/train/step.h"

namespace espalier::train {

class ShapedSteps {
 public:
  /// Whatever sizes a step is made for.
  using BatchShape = std::vector<int64_t>;
  using Make = std::function<Step(const BatchShape&)>;
  /// Called before a step is compiled for a shape that is not the first.
  using Announce = std::function<void(const BatchShape&)>;

  explicit ShapedSteps(Make make, Announce announce = {})
      : make_(std::move(make)), announce_(std::move(announce)) {}

  /// The compiled step for that shape. The first one keeps the state (or `state`, a step compiled
  /// elsewhere), all others work on its memory; what only a run needs is given back when another
  /// shape's turn comes.
  Step& at(const BatchShape& shape);
  /// The next steps work on the state of that one.
  void use_state_of(Step& step) { state_ = &step; }
  int64_t compilations() const { return static_cast<int64_t>(steps_.size()); }

 private:
  Make make_;
  Announce announce_;
  std::map<BatchShape, std::unique_ptr<Step>> steps_;
  Step* state_ = nullptr;  // whose memory holds the state
  Step* last_ = nullptr;
};

}  // namespace espalier::train
