// SPDX-License-Identifier: Apache-2.0
// Line charts as SVG text: one or several named curves, axes with units, round ticks. A chart
// stands alone as a file and inside the HTML report. The same input gives the same text.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace espalier::train {

/// How values of an axis are written.
enum class Unit {
  plain,    // 0.25, 12k
  bytes,    // 1.5 GiB
  percent,  // of 1: 0.75 is 75%
};

struct Curve {
  std::string name;          // for the legend, shown when there are several curves
  std::vector<double> x, y;  // of equal length; the line has a gap where a value is not finite
};

struct Chart {
  std::string title;
  std::string x_label = "step";
  std::string y_label;  // with its unit: "loss (nats)"
  Unit unit = Unit::plain;
  std::vector<Curve> curves;
  bool from_zero = false;  // the y axis begins at 0
  bool log_y = false;      // values that are not positive are left out
  bool smooth = false;     // a moving average, the values themselves pale behind it
  bool wide = false;       // over both columns of the report
};

/// One <svg> element with its own fonts and colours, 560 (wide: 1140) pixels wide.
std::string svg_chart(const Chart& chart);

/// Text for HTML and SVG: special characters escaped, control characters made visible.
std::string html_escape(std::string_view text);

}  // namespace espalier::train
