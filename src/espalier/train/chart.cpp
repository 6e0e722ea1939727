// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "espalier/base/error.h"
#include "espalier/base/text.h"
#include "espalier/train/axis.h"

namespace espalier::train {
namespace {
constexpr std::array<const char*, 8> kColours{"#2f6db5", "#d9772b", "#2e9163", "#8a56b0",
                                              "#c4443f", "#1f93a8", "#8c6a4a", "#6b7280"};
constexpr const char* kInk = "#374151";
constexpr const char* kMuted = "#6b7280";
constexpr const char* kGrid = "#e5e7eb";
constexpr double kLetter = 6.3;  // mean width of a letter at 11 px

/// The plotting area in pixels.
struct Frame {
  double left, right, top, bottom;
  Axis x, y;
  double at_x(double value) const { return left + (right - left) * x.position(value); }
  double at_y(double value) const { return bottom - (bottom - top) * y.position(value); }
};

bool drawable(const Chart& chart, double x, double y) {
  return std::isfinite(x) && std::isfinite(y) && (!chart.log_y || y > 0);
}

/// Mean over about 1/40 of the curve around each point, so that the line does not trail behind. At
/// the left end the window shrinks from both sides (a steep start stays steep), at the right end it
/// loses its later half (one noisy value does not bend the line).
std::vector<double> smoothed(const std::vector<double>& y) {
  std::vector<double> sums{0.0}, counts{0.0};
  for (const double value : y) {
    const bool finite = std::isfinite(value);
    sums.push_back(sums.back() + (finite ? value : 0.0));
    counts.push_back(counts.back() + (finite ? 1.0 : 0.0));
  }
  std::vector<double> result(y);
  const size_t reach = std::max<size_t>(y.size() / 80, 1);
  for (size_t i = 0; i < y.size(); ++i) {
    if (!std::isfinite(y[i])) continue;
    const size_t half = std::min(reach, i);
    const size_t begin = i - half, end = std::min(i + half + 1, y.size());
    result[i] = (sums[end] - sums[begin]) / (counts[end] - counts[begin]);
  }
  return result;
}

/// SVG path of a curve; of several points in one pixel column the lowest and highest are kept.
std::string path_of(const Chart& chart, const Frame& frame, const std::vector<double>& xs,
                    const std::vector<double>& ys) {
  std::string path;
  const auto point = [&](char command, double x, double y) {
    const double clipped = std::clamp(frame.at_y(y), frame.top - 2, frame.bottom + 2);
    path += fmt::format("{}{:.1f} {:.1f}", command, frame.at_x(x), clipped);
  };
  size_t i = 0;
  while (i < xs.size()) {
    if (!drawable(chart, xs[i], ys[i])) {
      ++i;
      continue;
    }
    const bool alone = (i == 0 || !drawable(chart, xs[i - 1], ys[i - 1])) &&
                       (i + 1 == xs.size() || !drawable(chart, xs[i + 1], ys[i + 1]));
    point('M', xs[i], ys[i]);
    if (alone) path += "h0.1";  // with round caps: a dot
    while (i < xs.size() && drawable(chart, xs[i], ys[i])) {
      const double column = std::floor(frame.at_x(xs[i]));
      size_t low = i, high = i, end = i;
      for (; end < xs.size() && drawable(chart, xs[end], ys[end]) &&
             std::floor(frame.at_x(xs[end])) == column;
           ++end) {
        if (ys[end] < ys[low]) low = end;
        if (ys[end] > ys[high]) high = end;
      }
      std::array<size_t, 4> kept{i, std::min(low, high), std::max(low, high), end - 1};
      const auto last = std::unique(kept.begin(), kept.end());
      for (auto k = kept.begin(); k != last; ++k) point('L', xs[*k], ys[*k]);
      i = end;
    }
  }
  return path;
}

struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  void add(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  bool empty() const { return low > high; }
};

/// The last value of a curve that can be drawn; NaN when there is none.
double last_value(const Chart& chart, const Curve& curve) {
  for (size_t i = curve.y.size(); i-- > 0;) {
    if (drawable(chart, curve.x[i], curve.y[i])) return curve.y[i];
  }
  return std::numeric_limits<double>::quiet_NaN();
}

std::string text_at(double x, double y, std::string_view attributes, std::string_view text) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" {}>{}</text>\n", x, y, attributes,
                     html_escape(text));
}

/// Legend from `left` on, broken into rows; returns the height it takes.
double draw_legend(std::string& svg, const Chart& chart, double left, double right, double top) {
  double x = left, y = top;
  for (size_t i = 0; i < chart.curves.size(); ++i) {
    const Curve& curve = chart.curves[i];
    const double last = last_value(chart, curve);
    const std::string value = std::isnan(last) ? "" : "  " + format_value(last, chart.unit);
    const double width = 30 + kLetter * static_cast<double>(curve.name.size() + value.size()) + 14;
    if (x > left && x + width > right) {
      x = left;
      y += 18;
    }
    svg += fmt::format(
        "<line x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\" "
        "stroke-width=\"2.5\" stroke-linecap=\"round\"/>\n",
        x + 2, x + 20, y - 4, y - 4, kColours[i % kColours.size()]);
    svg += fmt::format(
        "<text x=\"{:.1f}\" y=\"{:.1f}\" fill=\"{}\">{}<tspan fill=\"{}\" dx=\"6\">{}</tspan>"
        "</text>\n",
        x + 26, y, kInk, html_escape(curve.name), kMuted, html_escape(value));
    x += width;
  }
  return y - top + 18;
}

void draw_axes(std::string& svg, const Chart& chart, const Frame& frame) {
  for (const Tick& tick : frame.y.ticks) {
    const double y = frame.at_y(tick.value);
    const bool base = y > frame.bottom - 0.5;
    svg += fmt::format(
        "<line x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\"/>\n",
        frame.left, frame.right, y, y, base ? "#9ca3af" : kGrid);
    svg += text_at(frame.left - 8, y + 4, "text-anchor=\"end\"", tick.label);
  }
  if (frame.y.log) {  // whose lowest tick need not be the bottom
    svg += fmt::format(
        "<line x1=\"{0:.1f}\" x2=\"{1:.1f}\" y1=\"{2:.1f}\" y2=\"{2:.1f}\" stroke=\"#9ca3af\"/>\n",
        frame.left, frame.right, frame.bottom);
  }
  for (const Tick& tick : frame.x.ticks) {
    const double x = frame.at_x(tick.value);
    svg += fmt::format(
        "<line x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1:.1f}\" y2=\"{2:.1f}\" stroke=\"#9ca3af\"/>\n",
        x, frame.bottom, frame.bottom + 4);
    svg += text_at(x, frame.bottom + 17, "text-anchor=\"middle\"", tick.label);
  }
  svg += text_at((frame.left + frame.right) / 2, frame.bottom + 35, "text-anchor=\"middle\"",
                 chart.x_label);
}

void draw_curves(std::string& svg, const Chart& chart, const Frame& frame) {
  const auto stroke = [&](const std::string& path, const char* colour, const char* look) {
    svg += fmt::format(
        "<path d=\"{}\" fill=\"none\" stroke=\"{}\" stroke-linejoin=\"round\" "
        "stroke-linecap=\"round\" {}/>\n",
        path, colour, look);
  };
  for (size_t i = 0; i < chart.curves.size(); ++i) {
    const Curve& curve = chart.curves[i];
    const char* colour = kColours[i % kColours.size()];
    const bool averaged = chart.smooth && curve.y.size() > 80;
    if (averaged) {
      stroke(path_of(chart, frame, curve.x, curve.y), colour,
             "stroke-width=\"1\" stroke-opacity=\"0.28\"");
    }
    const auto& drawn = averaged ? smoothed(curve.y) : curve.y;
    // A single value stands out among lines as a point that can be seen.
    const bool single = drawn.size() == 1;
    stroke(path_of(chart, frame, curve.x, drawn), colour,
           single ? "stroke-width=\"7\"" : "stroke-width=\"2\"");
  }
}

/// Whether the curve comes to point i from above: a label over it would lie on the line.
bool falls_to(const Curve& curve, const Frame& frame, size_t i) {
  constexpr double kLabel = 40;  // pixels that a label takes to the left
  double highest = frame.at_y(curve.y[i]);
  for (size_t k = i; k-- > 0 && frame.at_x(curve.x[k]) > frame.at_x(curve.x[i]) - kLabel;) {
    if (std::isfinite(curve.y[k])) highest = std::min(highest, frame.at_y(curve.y[k]));
  }
  return highest < frame.at_y(curve.y[i]) - 4;
}

/// The last value beside its point, for a chart of one curve.
void draw_last_value(std::string& svg, const Chart& chart, const Frame& frame) {
  const Curve& curve = chart.curves.front();
  for (size_t i = curve.y.size(); i-- > 0;) {
    if (!drawable(chart, curve.x[i], curve.y[i])) continue;
    const double x = frame.at_x(curve.x[i]);
    const double y =
        frame.at_y(chart.smooth && curve.y.size() > 80 ? smoothed(curve.y)[i] : curve.y[i]);
    svg += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3.2\" fill=\"{}\"/>\n", x, y,
                       kColours[0]);
    const bool room_above = y - 9 > frame.top + 8, room_below = y + 18 < frame.bottom - 2;
    const bool below = !room_above || (room_below && falls_to(curve, frame, i));
    svg += text_at(x, below ? y + 18 : y - 9,
                   fmt::format("text-anchor=\"end\" font-weight=\"600\" fill=\"{}\" "
                               "stroke=\"#fff\" stroke-width=\"3\" paint-order=\"stroke\"",
                               kColours[0]),
                   format_value(curve.y[i], chart.unit));
    return;
  }
}
}  // namespace

std::string svg_chart(const Chart& chart) {
  Range x_range, y_range;
  bool whole_x = true;
  for (const Curve& curve : chart.curves) {
    ESPALIER_CHECK(curve.x.size() == curve.y.size(), ErrorKind::internal, "report",
                   "curve {} of {} has {} x and {} y", curve.name, chart.title, curve.x.size(),
                   curve.y.size());
    for (size_t i = 0; i < curve.x.size(); ++i) {
      if (!drawable(chart, curve.x[i], curve.y[i])) continue;
      x_range.add(curve.x[i]);
      whole_x = whole_x && curve.x[i] == std::floor(curve.x[i]);
      y_range.add(curve.y[i]);
    }
  }
  const double width = chart.wide ? 1140 : 560, height = chart.wide ? 340 : 280;
  std::string body;
  body += text_at(4, 16, fmt::format("fill=\"{}\"", kMuted), chart.y_label);
  double top = 32;
  if (chart.curves.size() > 1) top += draw_legend(body, chart, 4, width - 8, 38);
  if (x_range.empty()) {
    body += text_at(width / 2, height / 2, "text-anchor=\"middle\"", "no values");
  } else {
    Frame frame{.left = 0, .right = width - 18, .top = top, .bottom = height - 44};
    frame.y = make_axis({.low = y_range.low,
                         .high = y_range.high,
                         .unit = chart.unit,
                         .from_zero = chart.from_zero,
                         .log = chart.log_y});
    frame.x = make_axis({.low = x_range.low,
                         .high = x_range.high,
                         .tight = true,
                         .whole = whole_x,
                         .ticks = chart.wide ? 12 : 6});
    size_t longest = 0;
    for (const Tick& tick : frame.y.ticks) longest = std::max(longest, tick.label.size());
    frame.left = 16 + kLetter * static_cast<double>(longest);
    draw_axes(body, chart, frame);
    draw_curves(body, chart, frame);
    if (chart.curves.size() == 1) draw_last_value(body, chart, frame);
  }
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" "
      "height=\"{1}\" role=\"img\" aria-label=\"{2}\" font-family=\"system-ui, -apple-system, "
      "'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif\" font-size=\"11\" fill=\"{3}\">\n"
      "{4}</svg>\n",
      width, height, html_escape(chart.title), kMuted, body);
}

std::string html_escape(std::string_view text) {
  std::string out;
  for (const char c : valid_utf8(text)) {
    const auto code = static_cast<unsigned char>(c);
    if (c == '&') {
      out += "&amp;";
    } else if (c == '<') {
      out += "&lt;";
    } else if (c == '>') {
      out += "&gt;";
    } else if (c == '"') {
      out += "&quot;";
    } else if ((code < 0x20 && c != '\n' && c != '\t') || code == 0x7F) {
      // U+2400 and on: pictures of the control characters, in UTF-8.
      const int picture = code == 0x7F ? 0xA1 : 0x80 + code;
      out += "\xE2\x90";
      out += static_cast<char>(picture);
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace espalier::train
