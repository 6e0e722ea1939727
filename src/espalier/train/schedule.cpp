// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "espalier/base/error.h"

namespace espalier::train {
namespace {

Schedule decay(Schedule::Kind kind, const DecayOptions& options) {
  ESPALIER_CHECK(options.warmup >= 0 && options.warmup < options.total, ErrorKind::user, "schedule",
                 "warmup = {} must be less than total = {} steps", options.warmup, options.total);
  Schedule schedule(options.peak);
  schedule.kind = kind;
  schedule.warmup = options.warmup;
  schedule.total = options.total;
  schedule.end = options.end;
  return schedule;
}

Tensor like(Tensor x, double value) { return constant_like(x, value); }

}  // namespace

Tensor Schedule::at(Tensor updates) const {
  Tensor value = like(updates, peak);
  if (kind != Kind::constant) {
    const Tensor done =
        (updates - static_cast<double>(warmup)) * (1.0 / static_cast<double>(total - warmup));
    const Tensor x = minimum(maximum(done, like(done, 0.0)), like(done, 1.0));
    const Tensor left =
        kind == Kind::linear ? 1.0 - x : (1.0 + unary(ir::Op::cos, x * std::numbers::pi)) * 0.5;
    value = left * (peak - end) + end;
  }
  if (warmup == 0) return value;
  const Tensor rising = updates * (peak / static_cast<double>(warmup));
  const Tensor warm = compare(ir::Op::ge, updates, like(updates, static_cast<double>(warmup)));
  return select(warm, value, rising);
}

double Schedule::at(int64_t updates) const {
  if (updates < warmup) {
    return static_cast<double>(updates) * (peak / static_cast<double>(warmup));
  }
  if (kind == Kind::constant) return peak;
  const double x =
      std::min(1.0, static_cast<double>(updates - warmup) / static_cast<double>(total - warmup));
  const double left = kind == Kind::linear ? 1.0 - x : (1.0 + std::cos(x * std::numbers::pi)) * 0.5;
  return left * (peak - end) + end;
}

Schedule constant_schedule(double value, int64_t warmup) {
  ESPALIER_CHECK(warmup >= 0, ErrorKind::user, "schedule", "warmup = {} is negative", warmup);
  Schedule schedule(value);
  schedule.warmup = warmup;
  return schedule;
}
Schedule linear_schedule(const DecayOptions& options) {
  return decay(Schedule::Kind::linear, options);
}
Schedule cosine_schedule(const DecayOptions& options) {
  return decay(Schedule::Kind::cosine, options);
}

}  // namespace espalier::train
