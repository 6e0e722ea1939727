// SPDX-License-Identifier: Apache-2.0
// The curves of several runs in one picture, and how far they are apart.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "espalier/train/metrics.h"

namespace espalier::train {

struct RunCurve {
  std::string name;
  std::vector<double> steps;
  std::vector<double> values;  // one for each step
};

/// A column of a run's metrics.csv. Throws `data` when the run has no such numbers.
RunCurve read_curve(const std::filesystem::path& run, const std::string& column,
                    const std::string& name);

/// How far two curves are apart over the steps that both have.
struct CurveDeviation {
  std::string a, b;
  double largest = 0.0;   // |a - b| of moving means over `window` points
  double at_step = 0.0;   // where that is
  double relative = 0.0;  // that distance over the mean of both there
  double last = 0.0;      // a - b of the moving means at the last step
};

/// Each curve against the first. `window` >= 1 points are averaged, so that what is compared is the
/// course of training and not the noise of single batches. Throws `data` when two curves share no
/// step.
std::vector<CurveDeviation> deviations(const std::vector<RunCurve>& curves, int64_t window);

/// A page with the picture and the table of deviations.
void write_curves(const std::filesystem::path& path, const std::string& column,
                  const std::vector<RunCurve>& curves,
                  const std::vector<CurveDeviation>& deviations);

}  // namespace espalier::train
