// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/curves.h"

#include <algorithm>
#include <cmath>

#include "espalier/base/error.h"
#include "espalier/train/report.h"

namespace espalier::train {
namespace {

/// Mean of up to `window` values that end at each index.
std::vector<double> moving_mean(const std::vector<double>& values, int64_t window) {
  std::vector<double> result;
  double sum = 0.0;
  for (size_t i = 0; i < values.size(); ++i) {
    sum += values[i];
    const auto full = static_cast<size_t>(window);
    if (i >= full) sum -= values[i - full];
    result.push_back(sum / static_cast<double>(std::min(i + 1, full)));
  }
  return result;
}

/// Values of both curves at the steps they share.
struct Shared {
  std::vector<double> steps, a, b;
};

Shared shared_steps(const RunCurve& a, const RunCurve& b) {
  Shared shared;
  for (size_t i = 0, j = 0; i < a.steps.size() && j < b.steps.size();) {
    if (a.steps[i] == b.steps[j]) {
      shared.steps.push_back(a.steps[i]);
      shared.a.push_back(a.values[i++]);
      shared.b.push_back(b.values[j++]);
    } else if (a.steps[i] < b.steps[j]) {
      ++i;
    } else {
      ++j;
    }
  }
  ESPALIER_CHECK(!shared.steps.empty(), ErrorKind::data, "curves",
                 "{} and {} share no step; train both with the same --log-every", a.name, b.name);
  return shared;
}

}  // namespace

RunCurve read_curve(const std::filesystem::path& run, const std::string& column,
                    const std::string& name) {
  const MetricsTable table = read_metrics(run / "metrics.csv");
  RunCurve curve{.name = name, .steps = {}, .values = {}};
  std::tie(curve.steps, curve.values) = table.series(column);
  ESPALIER_CHECK(!curve.steps.empty(), ErrorKind::data, "curves", "no numbers of {} in {}", column,
                 (run / "metrics.csv").string());
  return curve;
}

std::vector<CurveDeviation> deviations(const std::vector<RunCurve>& curves, int64_t window) {
  ESPALIER_CHECK(window >= 1, ErrorKind::user, "curves", "a window of {} points is none", window);
  std::vector<CurveDeviation> result;
  for (size_t c = 1; c < curves.size(); ++c) {
    const Shared shared = shared_steps(curves[0], curves[c]);
    const auto a = moving_mean(shared.a, window);
    const auto b = moving_mean(shared.b, window);
    CurveDeviation deviation{.a = curves[0].name, .b = curves[c].name};
    for (size_t i = 0; i < a.size(); ++i) {
      const double distance = std::abs(a[i] - b[i]);
      if (!(distance <= deviation.largest)) {
        deviation.largest = distance;
        deviation.at_step = shared.steps[i];
        deviation.relative = distance / (0.5 * std::abs(a[i] + b[i]));
      }
    }
    deviation.last = a.back() - b.back();
    result.push_back(deviation);
  }
  return result;
}

void write_curves(const std::filesystem::path& path, const std::string& column,
                  const std::vector<RunCurve>& curves,
                  const std::vector<CurveDeviation>& deviations) {
  Chart chart{.title = column, .y_label = column, .smooth = true, .wide = true};
  for (const RunCurve& curve : curves)
    chart.curves.push_back({curve.name, curve.steps, curve.values});
  ReportTable table{.title = "Distance of the smoothed curves",
                    .columns = {"runs", "largest", "at step", "of the value", "at the end"}};
  for (const CurveDeviation& d : deviations) {
    table.rows.push_back(
        {d.a + " and " + d.b, fmt::format("{:.4f}", d.largest), fmt::format("{:.0f}", d.at_step),
         fmt::format("{:.2f} %", 100.0 * d.relative), fmt::format("{:+.4f}", d.last)});
  }
  write_report(path, {.title = "Espalier: training curves", .charts = {chart}, .tables = {table}});
}

}  // namespace espalier::train
