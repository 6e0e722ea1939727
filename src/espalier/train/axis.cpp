// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/axis.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace espalier::train {
namespace {
/// A factor that makes values readable, and what to write behind them.
struct Scale {
  double factor = 1;
  const char* suffix = "";
};

Scale scale_for(double largest, Unit unit) {
  if (unit == Unit::percent) return {0.01, "%"};
  constexpr std::array<Scale, 5> kBytes{
      {{0x1p40, " TiB"}, {0x1p30, " GiB"}, {0x1p20, " MiB"}, {0x1p10, " KiB"}, {1, " B"}}};
  constexpr std::array<Scale, 5> kPlain{{{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}, {1, ""}}};
  // Plain numbers below 10,000 are short enough as they are.
  const double needed = unit == Unit::bytes ? 1.0 : 10.0;
  for (const Scale& scale : unit == Unit::bytes ? kBytes : kPlain) {
    if (scale.factor == 1 || largest >= needed * scale.factor) return scale;
  }
  return {};
}

/// 1, 2 or 5 times a power of ten, the smallest that is not below `least`.
double round_step(double least) {
  const double power = std::pow(10.0, std::floor(std::log10(least)));
  for (const double multiple : {1.0, 2.0, 5.0}) {
    if (multiple * power >= least * (1 - 1e-9)) return multiple * power;
  }
  return 10 * power;
}

std::string number(double value, double step) {
  if (value == 0) return "0";
  if (std::abs(value) < 1e-3) return fmt::format("{:.3g}", value);
  const int decimals = std::max(0, static_cast<int>(-std::floor(std::log10(step) + 1e-9)));
  return fmt::format("{:.{}f}", value, decimals);
}

Axis linear_axis(const AxisRequest& request) {
  double low = request.from_zero ? std::min(0.0, request.low) : request.low;
  double high = request.from_zero ? std::max(0.0, request.high) : request.high;
  if (high - low <= 1e-12 * std::max(std::abs(low), std::abs(high))) {
    const double room = high == 0 ? 1.0 : 0.1 * std::abs(high);
    if (!request.from_zero || low == 0) high += room;
    if (!request.from_zero && !request.tight) low -= room;
  }
  const Scale scale = scale_for(std::max(std::abs(low), std::abs(high)), request.unit);
  const double finest = request.whole ? 1.0 / scale.factor : 0.0;
  const double step = round_step(std::max((high - low) / scale.factor / request.ticks, finest));
  const double slack = 1e-9 * step;
  double first = std::ceil((low / scale.factor - slack) / step);
  double last = std::floor((high / scale.factor + slack) / step);
  if (!request.tight) {
    first = std::floor((low / scale.factor + slack) / step);
    last = std::ceil((high / scale.factor - slack) / step);
    low = first * step * scale.factor;
    high = last * step * scale.factor;
  }
  Axis axis{.low = low, .high = high};
  for (double i = first; i <= last; ++i) {
    axis.ticks.push_back({i * step * scale.factor, number(i * step, step) + scale.suffix});
  }
  return axis;
}

Axis log_axis(const AxisRequest& request) {
  const double low_decade = std::floor(std::log10(request.low));
  const double high_decade = std::ceil(std::log10(request.high) + 1e-9);
  Axis axis{.low = request.low / 1.05, .high = request.high * 1.05, .log = true};
  // The coarsest grid that still gives three ticks.
  const std::vector<std::vector<double>> grids{{1}, {1, 2, 5}, {1, 1.5, 2, 3, 4, 5, 7}};
  for (const std::vector<double>& multiples : grids) {
    axis.ticks.clear();
    for (double decade = low_decade; decade <= high_decade; ++decade) {
      for (const double multiple : multiples) {
        const double value = multiple * std::pow(10.0, decade);
        if (value < axis.low || value > axis.high) continue;
        axis.ticks.push_back({value, format_value(value, request.unit)});
      }
    }
    if (axis.ticks.size() >= 3) break;
  }
  return axis;
}
}  // namespace

double Axis::position(double value) const {
  if (log) return std::log(value / low) / std::log(high / low);
  return (value - low) / (high - low);
}

Axis make_axis(const AxisRequest& request) {
  // Values near the end of double's range would overflow a range; they are drawn at its edge.
  AxisRequest bounded = request;
  bounded.low = std::clamp(request.low, -1e300, 1e300);
  bounded.high = std::clamp(request.high, -1e300, 1e300);
  return bounded.log ? log_axis(bounded) : linear_axis(bounded);
}

std::string format_value(double value, Unit unit) {
  const Scale scale = scale_for(std::abs(value), unit);
  const double scaled = value / scale.factor;
  if (std::abs(scaled) >= 1e3) return fmt::format("{:.0f}{}", scaled, scale.suffix);
  return fmt::format("{:.4g}{}", scaled, scale.suffix);
}

}  // namespace espalier::train
