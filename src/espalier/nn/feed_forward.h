// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "espalier/nn/context.h"
#include "espalier/nn/linear.h"

namespace espalier::nn {

struct FeedForwardOptions {
  int64_t width = 0;
  int64_t hidden = 0;
  double hidden_dropout = 0.0;  // after the activation
  double output_dropout = 0.0;  // after the second projection
  InitScheme init = InitScheme::torch;
};

/// down(relu(up(x))): x [..., width] -> same.
struct FeedForward : Module<FeedForward> {
  Linear up, down;
  double hidden_dropout = 0.0;
  double output_dropout = 0.0;
  static constexpr auto fields = nn::fields(&FeedForward::up, "up", &FeedForward::down, "down");

  FeedForward() = default;
  explicit FeedForward(const FeedForwardOptions& options)
      : up(options.width, options.hidden, {.init = options.init}),
        down(options.hidden, options.width, {.init = options.init}),
        hidden_dropout(options.hidden_dropout),
        output_dropout(options.output_dropout) {}

  Tensor operator()(Tensor x, const Context& context) const {
    const Tensor hidden = context.dropout(relu(up(x)), hidden_dropout);
    return context.dropout(down(hidden), output_dropout);
  }
};

}  // namespace espalier::nn
