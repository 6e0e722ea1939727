// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "espalier/base/error.h"
#include "espalier/io/atomic.h"

namespace espalier::train {
namespace {
constexpr const char* kStyle = R"(
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #f6f7f5; color: #1f2937; line-height: 1.45;
  font: 14px system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif; }
main { max-width: 1220px; margin: 0 auto; padding: 32px 24px 48px; }
h1 { margin: 0; font-size: 26px; font-weight: 650; letter-spacing: -0.01em; }
h2 { margin: 0 0 10px; font-size: 14px; font-weight: 600; color: #111827; }
.subtitle { margin: 4px 0 0; color: #6b7280; }
.grid { display: grid; gap: 16px; margin-top: 20px; grid-template-columns: repeat(2, 1fr); }
.tiles { grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); }
.card { background: #fff; border: 1px solid #e5e7eb; border-radius: 8px; padding: 16px 18px;
  min-width: 0; overflow-x: auto; }
.wide { grid-column: 1 / -1; }
.tile .value { font-size: 24px; font-weight: 650; letter-spacing: -0.01em; color: #14532d; }
.tile .label { color: #374151; }
.tile .note, p.note { color: #6b7280; font-size: 12px; }
p.note { margin: 10px 0 0; }
svg { display: block; width: 100%; height: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: right; font-weight: 500; color: #6b7280; font-size: 12px;
  border-bottom: 1px solid #d1d5db; padding: 4px 10px; white-space: nowrap; }
td { text-align: right; border-bottom: 1px solid #f0f1f3; padding: 5px 10px; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
td:first-child { white-space: normal; overflow-wrap: anywhere; min-width: 220px; }
tr:last-child td { border-bottom: 0; }
.bar { display: inline-block; vertical-align: middle; width: 120px; height: 8px; margin-left: 10px;
  border-radius: 2px; background: #f0f1f3; }
.bar i { display: block; height: 100%; border-radius: 2px; background: #5f9bd5; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 18px; margin: 0; }
dt { color: #6b7280; }
dd { margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; color: #111827; line-height: 1.5;
  font: 13px ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace; }
footer { margin-top: 24px; color: #9ca3af; font-size: 12px; }
@media (max-width: 820px) { .grid { grid-template-columns: 1fr; } }
@media print { body { background: #fff; } .card { break-inside: avoid; } }
)";

/// A card of the grid; `content` is HTML.
std::string card(std::string_view title, std::string_view content, std::string_view classes = "") {
  return fmt::format("<section class=\"card{}{}\">{}{}</section>\n", classes.empty() ? "" : " ",
                     classes, title.empty() ? "" : fmt::format("<h2>{}</h2>", html_escape(title)),
                     content);
}

std::string highlights(const std::vector<Highlight>& tiles) {
  if (tiles.empty()) return "";
  std::string html = "<div class=\"grid tiles\">\n";
  for (const Highlight& tile : tiles) {
    std::string content = fmt::format("<div class=\"value\">{}</div><div class=\"label\">{}</div>",
                                      html_escape(tile.value), html_escape(tile.label));
    if (!tile.note.empty()) {
      content += fmt::format("<div class=\"note\">{}</div>", html_escape(tile.note));
    }
    html += card("", content, "tile");
  }
  return html + "</div>\n";
}

/// The number at the start of a cell; 0 when there is none.
double number_in(const std::string& cell) {
  return std::max(0.0, std::strtod(cell.c_str(), nullptr));
}

std::string table(const ReportTable& table) {
  const size_t columns = table.columns.size();
  double largest = 0;
  for (const auto& row : table.rows) {
    ESPALIER_CHECK(row.size() == columns, ErrorKind::internal, "report",
                   "a row of {} has {} cells for {} columns", table.title, row.size(), columns);
    if (table.bar_column) largest = std::max(largest, number_in(row.at(*table.bar_column)));
  }
  std::string html = "<table><thead><tr>";
  for (const std::string& column : table.columns) {
    html += fmt::format("<th>{}</th>", html_escape(column));
  }
  html += "</tr></thead><tbody>\n";
  for (const auto& row : table.rows) {
    html += "<tr>";
    for (size_t i = 0; i < columns; ++i) {
      html += "<td>" + html_escape(row[i]);
      if (table.bar_column == i && largest > 0) {
        html += fmt::format("<span class=\"bar\"><i style=\"width:{:.1f}%\"></i></span>",
                            100 * number_in(row[i]) / largest);
      }
      html += "</td>";
    }
    html += "</tr>\n";
  }
  html += "</tbody></table>";
  if (!table.note.empty()) html += fmt::format("<p class=\"note\">{}</p>", html_escape(table.note));
  return card(table.title, html, "wide");
}

std::string facts(const FactList& list) {
  std::string html = "<dl>";
  for (const auto& [name, value] : list.facts) {
    html += fmt::format("<dt>{}</dt><dd>{}</dd>\n", html_escape(name), html_escape(value));
  }
  return card(list.title, html + "</dl>");
}
}  // namespace

std::string render_report(const Report& report) {
  std::string grid;
  for (const Chart& chart : report.charts) {
    grid += card(chart.title, svg_chart(chart), chart.wide ? "wide" : "");
  }
  for (const ReportTable& each : report.tables) grid += table(each);
  for (const ReportText& text : report.texts) {
    grid += card(text.title, fmt::format("<pre>{}</pre>", html_escape(text.text)), "wide");
  }
  for (const FactList& list : report.facts) grid += facts(list);
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<title>{0}</title>\n<style>{2}</style>\n</head>\n<body><main>\n"
      "<header><h1>{0}</h1><p class=\"subtitle\">{1}</p></header>\n"
      "{3}<div class=\"grid\">\n{4}</div>\n"
      "<footer>Written by espalier.</footer>\n</main></body>\n</html>\n",
      html_escape(report.title), html_escape(report.subtitle), kStyle,
      highlights(report.highlights), grid);
}

void write_report(const std::filesystem::path& path, const Report& report) {
  io::write_file_atomically(path, render_report(report), {.stage = "report"});
}

}  // namespace espalier::train
