// SPDX-License-Identifier: Apache-2.0
// report.html and trace.json of a byte-LM run.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "espalier/train/byte_lm_options.h"
#include "espalier/train/loop.h"
#include "espalier/train/metrics.h"
#include "espalier/train/report.h"

namespace espalier::train {

/// Columns of metrics.csv after "step".
std::vector<std::string> metric_columns();

struct ByteLmReportInput {
  const ByteLmOptions& options;
  const LoopResult& loop;
  const CompileStats& stats;
  MetricsTable metrics;
  double eval_bits_per_byte = 0.0;
  double peak_flops = 0.0;
  double flops_per_step = 0.0;
};

void write_byte_lm_report(const std::filesystem::path& path, const ByteLmReportInput& input);

/// Where the time of a step goes, kernel by kernel; `runs` profiled steps, `peak` in FLOP/s or 0.
ReportTable profile_table(const std::vector<ProfileRow>& rows, double peak);

/// The last profiled step as a Chrome trace.
void write_trace(const std::filesystem::path& path, const LoopResult& loop);

}  // namespace espalier::train
