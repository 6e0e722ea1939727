// SPDX-License-Identifier: Apache-2.0
// The numbers of a run as it goes: metrics.csv and a TensorBoard event file in one folder.
// Every record reaches the kernel before the call returns, so a killed run loses none.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "espalier/io/file.h"
#include "espalier/train/event_file.h"

namespace espalier::train {

using MetricValue = std::pair<std::string_view, double>;

struct MetricsOptions {
  std::filesystem::path folder;
  /// After "step", e.g. loss, bits_per_byte, sequences_per_second, learning_rate.
  std::vector<std::string> columns;
  /// Goes on after this step: rows of later steps, written by a run that was cut off, are dropped
  /// from the CSV and purged in TensorBoard. Without it the CSV starts anew.
  std::optional<int64_t> resume_step = {};
  /// Event tags are this and the column: "train/loss".
  std::string tag_prefix = "train/";
};

class MetricsLogger {
 public:
  explicit MetricsLogger(MetricsOptions options);

  /// One row. Columns without a value stay empty; a name that is not a column is an error.
  void log(int64_t step, std::span<const MetricValue> values);
  void log(int64_t step, std::initializer_list<MetricValue> values) {
    log(step, std::span(values.begin(), values.size()));
  }
  /// A number of its own for TensorBoard only, under its full tag ("eval/bits_per_byte").
  void log_event(int64_t step, std::string_view tag, double value);

  const std::filesystem::path& csv_path() const { return csv_.path(); }
  const std::filesystem::path& event_path() const { return events_.path(); }

 private:
  MetricsOptions options_;
  io::OutputFile csv_;
  EventFile events_;
};

/// The rows of a metrics.csv; cells that were empty are NaN.
struct MetricsTable {
  std::vector<std::string> columns;  // after "step"
  std::vector<int64_t> steps;
  std::vector<std::vector<double>> rows;  // [row][column]

  /// One column over the rows that have it: (steps, values); empty for an unknown name.
  std::pair<std::vector<double>, std::vector<double>> series(std::string_view column) const;
};

/// A last line without its newline is the trace of a killed run and is passed over; any other
/// malformed line is a `data` error with its number.
MetricsTable read_metrics(const std::filesystem::path& path);
MetricsTable parse_metrics(std::string_view text, const std::string& label);

}  // namespace espalier::train
