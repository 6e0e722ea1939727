// SPDX-License-Identifier: Apache-2.0
// Scales and ticks of a chart. Internal to train.
#pragma once

#include <string>
#include <vector>

#include "espalier/train/chart.h"

namespace espalier::train {

struct Tick {
  double value;
  std::string label;
};

struct Axis {
  double low = 0, high = 1;
  bool log = false;
  std::vector<Tick> ticks;

  /// 0 at `low`, 1 at `high`.
  double position(double value) const;
};

struct AxisRequest {
  double low, high;  // of the data, finite, low <= high
  Unit unit = Unit::plain;
  bool from_zero = false;
  bool log = false;    // low > 0
  bool tight = false;  // ends at the data instead of the next tick
  bool whole = false;  // ticks at whole numbers only
  int ticks = 5;       // about so many
};

Axis make_axis(const AxisRequest& request);

/// A single value with about four significant digits in its unit.
std::string format_value(double value, Unit unit);

}  // namespace espalier::train
