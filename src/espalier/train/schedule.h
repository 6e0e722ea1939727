// SPDX-License-Identifier: Apache-2.0
// Learning-rate schedules: data that becomes a few scalar nodes of the step's graph.
#pragma once

#include <cstdint>

#include "espalier/ir/tensor.h"

namespace espalier::train {

/// A value for each update, counted from 0. During `warmup` updates it grows linearly from 0 (the
/// first update gets 0, as in transformers and optax), then it goes from `peak` to `end`, which is
/// reached at update `total` and kept.
struct Schedule {
  enum class Kind : uint8_t { constant, linear, cosine };
  Kind kind = Kind::constant;
  double peak = 0.0;
  int64_t warmup = 0;
  int64_t total = 0;  // not used by constant
  double end = 0.0;   // not used by constant

  Schedule() = default;
  /// A number is a constant schedule, so that options can say `.learning_rate = 1e-3`.
  Schedule(double value) : peak(value) {}  // NOLINT(google-explicit-constructor)

  /// The value for the update after `updates` (scalar f32) earlier ones, a scalar f32.
  Tensor at(Tensor updates) const;
  /// The same as a number.
  double at(int64_t updates) const;
};

struct DecayOptions {
  double peak = 1e-3;
  int64_t warmup = 0;
  int64_t total = 0;
  double end = 0.0;
};

/// `value` after the warmup.
Schedule constant_schedule(double value, int64_t warmup = 0);
/// Throws `user` unless 0 <= warmup < total.
Schedule linear_schedule(const DecayOptions& options);
/// end + (peak - end) (1 + cos(pi x)) / 2 with x from 0 to 1 (Loshchilov and Hutter,
/// arXiv 1608.03983). Throws `user` unless 0 <= warmup < total.
Schedule cosine_schedule(const DecayOptions& options);

}  // namespace espalier::train
