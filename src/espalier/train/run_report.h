// SPDX-License-Identifier: Apache-2.0
// report.html and trace.json of a run.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/train/report.h"
#include "espalier/train/run_job.h"

namespace espalier::train {

/// Columns of metrics.csv after "step".
std::vector<std::string> metric_columns(const RunTask& task);

struct RunReportInput {
  const RunTask& task;
  const RunOptions& options;
  const LoopResult& loop;
  const CompileStats& stats;
  MetricsTable metrics;
  const Evaluation& evaluation;
  double peak_flops = 0.0;
};

/// A column of metrics.csv as a curve; without points where it has no values.
Curve curve_of(const MetricsTable& metrics, std::string_view column, std::string name);

void write_run_report(const std::filesystem::path& path, const RunReportInput& input);

/// The last profiled step as a Chrome trace.
void write_trace(const std::filesystem::path& path, const LoopResult& loop);

}  // namespace espalier::train
