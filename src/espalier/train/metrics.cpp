// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/metrics.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "espalier/base/error.h"
#include "espalier/base/text.h"
#include "espalier/io/atomic.h"

namespace espalier::train {
namespace {
namespace fs = std::filesystem;
constexpr const char* kStage = "metrics";
constexpr const char* kFile = "metrics.csv";
constexpr int64_t kLimit = int64_t{4} << 30;

std::string header_line(const std::vector<std::string>& columns) {
  return fmt::format("step{}{}\n", columns.empty() ? "" : ",", fmt::join(columns, ","));
}

/// Text up to the next `separator`, which is taken off `text` too.
std::string_view take(std::string_view& text, char separator) {
  const size_t end = std::min(text.find(separator), text.size());
  const std::string_view part = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return part;
}

template <typename T>
bool parse_number(std::string_view text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

/// The CSV that a run which goes on after `resume_step` continues.
std::string kept_text(const fs::path& path, const MetricsOptions& options) {
  std::string header = header_line(options.columns);
  if (!options.resume_step || !fs::exists(path)) return header;
  std::string text = io::read_text(path, kLimit, {.stage = kStage});
  std::string_view rest = text;
  const std::string_view found = take(rest, '\n');
  ESPALIER_CHECK(
      found.size() < text.size() && header.starts_with(found) && header.size() == found.size() + 1,
      ErrorKind::data, kStage,
      "the columns \"{}\" are not those of this run, \"{}\"; move the file away, at {}", found,
      std::string_view(header).substr(0, header.size() - 1), path.string());
  std::string kept = header;
  while (rest.find('\n') != rest.npos) {
    const std::string_view line = take(rest, '\n');
    std::string_view cells = line;
    int64_t step = 0;
    if (parse_number(take(cells, ','), step) && step <= *options.resume_step) {
      kept.append(line).append("\n");
    }
  }
  return kept;
}

io::OutputFile open_csv(const MetricsOptions& options) {
  const io::FileContext context{.stage = kStage};
  io::create_folders(options.folder, context);
  const fs::path path = options.folder / kFile;
  io::write_file_atomically(path, kept_text(path, options), context);
  return io::OutputFile::append(path, context);
}

std::optional<int64_t> restart_step(const MetricsOptions& options) {
  if (!options.resume_step) return std::nullopt;
  return *options.resume_step + 1;
}
}  // namespace

MetricsLogger::MetricsLogger(MetricsOptions options)
    : options_(std::move(options)),
      csv_(open_csv(options_)),
      events_(options_.folder, restart_step(options_)) {
  for (const std::string& column : options_.columns) {
    const bool plain = !column.empty() && column.find_first_of(",\"\r\n") == column.npos;
    ESPALIER_CHECK(plain, ErrorKind::internal, kStage, "{} cannot name a column",
                   json_quote(column));
  }
}

void MetricsLogger::log(int64_t step, std::span<const MetricValue> values) {
  std::vector<std::string> cells(options_.columns.size());
  for (const auto& [column, value] : values) {
    const auto found = std::find(options_.columns.begin(), options_.columns.end(), column);
    ESPALIER_CHECK(found != options_.columns.end(), ErrorKind::internal, kStage,
                   "{} is not a column{}", column, nearest_hint(column, options_.columns));
    cells[static_cast<size_t>(found - options_.columns.begin())] = fmt::format("{}", value);
  }
  csv_.write(fmt::format("{}{}{}\n", step, cells.empty() ? "" : ",", fmt::join(cells, ",")));
  for (const auto& [column, value] : values) {
    events_.scalar(step, options_.tag_prefix + std::string(column), value);
  }
}

void MetricsLogger::log_event(int64_t step, std::string_view tag, double value) {
  events_.scalar(step, tag, value);
}

std::pair<std::vector<double>, std::vector<double>> MetricsTable::series(
    std::string_view column) const {
  std::pair<std::vector<double>, std::vector<double>> result;
  const auto found = std::find(columns.begin(), columns.end(), column);
  if (found == columns.end()) return result;
  const auto index = static_cast<size_t>(found - columns.begin());
  for (size_t row = 0; row < rows.size(); ++row) {
    if (std::isnan(rows[row][index])) continue;
    result.first.push_back(static_cast<double>(steps[row]));
    result.second.push_back(rows[row][index]);
  }
  return result;
}

MetricsTable read_metrics(const fs::path& path) {
  return parse_metrics(io::read_text(path, kLimit, {.stage = kStage}), path.string());
}

MetricsTable parse_metrics(std::string_view text, const std::string& label) {
  MetricsTable table;
  std::string_view header = take(text, '\n');
  ESPALIER_CHECK(take(header, ',') == "step", ErrorKind::data, kStage,
                 "the first column is not \"step\", at {}:1", label);
  while (!header.empty()) table.columns.emplace_back(take(header, ','));
  for (int64_t number = 2; text.find('\n') != text.npos; ++number) {
    std::string_view line = take(text, '\n');
    const auto cells = std::count(line.begin(), line.end(), ',');
    ESPALIER_CHECK(std::cmp_equal(cells, table.columns.size()), ErrorKind::data, kStage,
                   "{} cells where the header has {}, at {}:{}", cells + 1,
                   table.columns.size() + 1, label, number);
    const std::string_view step = take(line, ',');
    ESPALIER_CHECK(parse_number(step, table.steps.emplace_back()), ErrorKind::data, kStage,
                   "step {} is not a number, at {}:{}", json_quote(step), label, number);
    std::vector<double>& row = table.rows.emplace_back();
    for (const std::string& column : table.columns) {
      const std::string_view cell = take(line, ',');
      row.push_back(std::numeric_limits<double>::quiet_NaN());
      ESPALIER_CHECK(cell.empty() || parse_number(cell, row.back()), ErrorKind::data, kStage,
                     "{} {} is not a number, at {}:{}", column, json_quote(cell), label, number);
    }
  }
  return table;
}

}  // namespace espalier::train
