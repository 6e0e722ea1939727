// SPDX-License-Identifier: Apache-2.0
// The HTML report of a run: one file without scripts or links to elsewhere, so that it opens
// anywhere, offline, and can be mailed. The same input gives the same bytes.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "espalier/train/chart.h"

namespace espalier::train {

/// A number that sums up the run: "1.42", "bits per byte", "on held-out text".
struct Highlight {
  std::string value, label, note;
};

/// A titled list of names and values, such as the configuration or the machine.
struct FactList {
  std::string title;
  std::vector<std::pair<std::string, std::string>> facts;
};

struct ReportTable {
  std::string title;
  std::vector<std::string> columns;
  std::vector<std::vector<std::string>> rows;  // the first column to the left, others to the right
  /// A column of numbers that is also drawn as bars, longest for the largest; "31.4 %" counts as
  /// 31.4.
  std::optional<size_t> bar_column = {};
  std::string note = {};
};

/// Text shown as it is, such as a sample of the model.
struct ReportText {
  std::string title, text;
};

struct Report {
  std::string title;
  std::string subtitle;
  std::vector<Highlight> highlights;
  std::vector<Chart> charts;
  std::vector<ReportTable> tables;
  std::vector<ReportText> texts;
  std::vector<FactList> facts;
};

std::string render_report(const Report& report);

/// Writes the report as a file that appears whole or not at all.
void write_report(const std::filesystem::path& path, const Report& report);

}  // namespace espalier::train
