// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/report.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "espalier/base/error.h"
#include "espalier/base/rng.h"
#include "espalier/io/file.h"
#include "espalier/train/axis.h"
#include "espalier/train/profile.h"
#include "tests/io/folder.h"

namespace espalier::train {
namespace {

std::vector<std::string> labels(const AxisRequest& request) {
  std::vector<std::string> result;
  for (const Tick& tick : make_axis(request).ticks) result.push_back(tick.label);
  return result;
}

using Labels = std::vector<std::string>;

TEST(Axis, TicksAreRoundAndCoverTheData) {
  EXPECT_EQ(labels({.low = 1.31, .high = 5.6}), (Labels{"1", "2", "3", "4", "5", "6"}));
  EXPECT_EQ(labels({.low = 0.012, .high = 0.038}), (Labels{"0.01", "0.02", "0.03", "0.04"}));
  EXPECT_EQ(labels({.low = 0, .high = 5000, .tight = true}),
            (Labels{"0", "1000", "2000", "3000", "4000", "5000"}));
  EXPECT_EQ(labels({.low = 1, .high = 100000, .tight = true}),
            (Labels{"20k", "40k", "60k", "80k", "100k"}));
  EXPECT_EQ(labels({.low = 2.9e9, .high = 3.1e9, .unit = Unit::bytes, .from_zero = true}),
            (Labels{"0 GiB", "1 GiB", "2 GiB", "3 GiB"}));
  EXPECT_EQ(labels({.low = 0.5, .high = 0.83, .unit = Unit::percent, .from_zero = true}),
            (Labels{"0%", "20%", "40%", "60%", "80%", "100%"}));
  EXPECT_EQ(labels({.low = 2, .high = 8, .tight = true, .whole = true, .ticks = 12}),
            (Labels{"2", "3", "4", "5", "6", "7", "8"}));
  EXPECT_EQ(labels({.low = 1e-5, .high = 1e-3}),
            (Labels{"0", "0.0002", "0.0004", "0.0006", "0.0008", "0.0010"}));
  EXPECT_EQ(labels({.low = 0.8, .high = 6, .log = true}), (Labels{"1", "2", "5"}));
  EXPECT_EQ(labels({.low = 1.2, .high = 5, .log = true}), (Labels{"1.5", "2", "3", "4", "5"}));
  EXPECT_EQ(labels({.low = 0.1, .high = 3000, .log = true}),
            (Labels{"0.1", "1", "10", "100", "1000"}));
}

TEST(Axis, FlatNegativeAndHugeDataHaveAnAxisToo) {
  for (const double value : {0.0, 3.0, -7.5, 1e-30, 1e308, -1e308}) {
    for (const bool from_zero : {false, true}) {
      for (const bool tight : {false, true}) {
        const Axis axis =
            make_axis({.low = value, .high = value, .from_zero = from_zero, .tight = tight});
        EXPECT_LT(axis.low, axis.high) << value;
        EXPECT_TRUE(std::isfinite(axis.position(std::clamp(value, -1e300, 1e300))));
        EXPECT_LT(axis.ticks.size(), 20u);
      }
    }
  }
  const Axis whole = make_axis(
      {.low = -std::numeric_limits<double>::max(), .high = std::numeric_limits<double>::max()});
  EXPECT_LT(whole.ticks.size(), 20u);
  EXPECT_EQ(labels({.low = -3, .high = 4}), (Labels{"-4", "-2", "0", "2", "4"}));
}

Curve noisy(const std::string& name, double scale, uint64_t id, int count = 400) {
  Curve curve{.name = name};
  for (int i = 0; i < count; ++i) {
    const float noise = rng_uniform(rng_key(1, 0, id), static_cast<uint64_t>(i)) - 0.5f;
    curve.x.push_back(i * 10 + 10);
    curve.y.push_back(scale * (1.3 + 4 * std::exp(-i / 50.0) + 0.15 * noise));
  }
  return curve;
}

/// All elements are closed in order; no parser for HTML is at hand.
void expect_balanced(const std::string& html) {
  std::vector<std::string> open;
  for (size_t i = html.find('<'); i != html.npos; i = html.find('<', i + 1)) {
    const size_t end = html.find('>', i);
    ASSERT_NE(end, html.npos);
    const std::string tag = html.substr(i + 1, end - i - 1);
    const std::string name = tag.substr(0, tag.find_first_of(" \n"));
    if (tag[0] == '!' || tag.back() == '/' || name == "meta") continue;
    if (tag[0] != '/') {
      open.push_back(name);
      continue;
    }
    ASSERT_FALSE(open.empty()) << tag;
    ASSERT_EQ("/" + open.back(), tag);
    open.pop_back();
  }
  EXPECT_TRUE(open.empty());
}

TEST(Chart, SeveralCurvesShareAPictureWithALegend) {
  const Chart chart{.title = "Loss",
                    .y_label = "loss (nats)",
                    .curves = {noisy("f32", 1, 1), noisy("bf16", 1.01, 2), noisy("f16", 1.02, 3)},
                    .smooth = true};
  const std::string svg = svg_chart(chart);
  expect_balanced(svg);
  for (const char* name : {">f32<", ">bf16<", ">f16<", "loss (nats)", ">step<"}) {
    EXPECT_NE(svg.find(name), std::string::npos) << name;
  }
  EXPECT_EQ(svg_chart(chart), svg);
  EXPECT_EQ(svg.find("nan"), std::string::npos);
}

TEST(Chart, ManyPointsStaySmallAndKeepTheirPeaks) {
  Curve curve = noisy("", 1, 1, 200'000);
  curve.y[100'000] = 40;
  const std::string svg = svg_chart({.title = "Loss", .curves = {curve}});
  EXPECT_LT(svg.size(), 60'000u);
  EXPECT_NE(svg.find(">40<"), std::string::npos);  // a tick reaches the peak
}

TEST(Chart, TheLastValueStandsWhereTheLineIsNot) {
  const auto label_y = [](std::vector<double> y) {
    std::vector<double> x;
    for (size_t i = 0; i < y.size(); ++i) x.push_back(static_cast<double>(i));
    const std::string svg = svg_chart({.title = "t", .curves = {{"c", x, std::move(y)}}});
    const size_t circle = svg.find("<circle"), text = svg.find("<text", circle);
    const auto after = [&](const char* what, size_t from) {
      return std::strtod(svg.c_str() + svg.find(what, from) + std::strlen(what), nullptr);
    };
    return after(" y=\"", text) - after("cy=\"", circle);
  };
  EXPECT_LT(label_y({9, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 3}), 0) << "above a line that rises";
  EXPECT_GT(label_y({0, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 4, 2}), 0) << "below a line that falls";
}

TEST(Profile, KernelsOfAllLayersAreOneRow) {
  const std::vector<ProfileRow> rows{{"matmul", "layers.0.mlp:matmul [2,2]", 3, 0.006, 6e9, 3e6},
                                     {"matmul", "layers.11.mlp:matmul [2,2]", 3, 0.012, 6e9, 3e6},
                                     {"loop", "loss:fusion", 3, 0.003, 0.0, 6e6},
                                     {"loop", "never", 0, 0.0, 0.0, 0.0}};
  const std::vector<ProfileGroup> groups = group_profile(rows);
  ASSERT_EQ(groups.size(), 2u);
  EXPECT_EQ(groups[0].label, "layers.*.mlp:matmul [2,2]");
  EXPECT_EQ(groups[0].kernels, 2);
  EXPECT_NEAR(groups[0].seconds, 0.006, 1e-12) << "of one step, not of the three that were timed";
  const ReportTable table = profile_table(rows, 1e12);
  ASSERT_EQ(table.rows.size(), 2u);
  EXPECT_EQ(table.rows[0], (std::vector<std::string>{"layers.*.mlp:matmul [2,2]", "matmul", "2",
                                                     "6.000", "85.7 %", "666.7", "66.7 %", "0.3"}));
  EXPECT_EQ(table.rows[1], (std::vector<std::string>{"loss:fusion", "loop", "1", "1.000", "14.3 %",
                                                     "", "", "2.0"}));
  EXPECT_EQ(table.note.rfind("7.00 ms in all kernels of a step", 0), 0u) << table.note;
  const std::string text = profile_text(rows, 1);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
  EXPECT_NE(text.find("6.00 ms  85.7 %    2x"), std::string::npos) << text;
}

TEST(Chart, GapsEmptyCurvesAndSinglePoints) {
  const double nan = std::nan(""), inf = HUGE_VAL;
  EXPECT_NE(svg_chart({.title = "x", .curves = {}}).find("no values"), std::string::npos);
  EXPECT_NE(svg_chart({.curves = {{"a", {1, 2}, {nan, inf}}}}).find("no values"),
            std::string::npos);
  const std::string gap = svg_chart({.curves = {{"a", {1, 2, 3, 4}, {1, nan, 2, 3}}}});
  EXPECT_NE(gap.find("h0.1"), std::string::npos);  // the lone first point is a dot
  EXPECT_EQ(gap.find("nan"), std::string::npos);
  EXPECT_EQ(svg_chart({.curves = {{"a", {5}, {3}}}}).find("nan"), std::string::npos);
  const std::string lone = svg_chart({.curves = {{"a", {1, 2}, {1, 2}}, {"b", {1.5}, {3}}}});
  EXPECT_NE(lone.find("stroke-width=\"7\""), std::string::npos);
  EXPECT_EQ(gap.find("stroke-width=\"7\""), std::string::npos);
  EXPECT_EQ(svg_chart({.curves = {{"a", {1, 2}, {-1, 10}}}, .log_y = true}).find("nan"),
            std::string::npos);
  EXPECT_THROW(svg_chart({.curves = {{"a", {1, 2}, {1}}}}), Error);
}

Report sample_report() {
  Report report{.title = "byte-lm <8 layers>", .subtitle = "bf16, flash attention"};
  report.highlights = {{"1.42", "bits per byte", "held-out, step 4000"},
                       {"71.3 %", "of peak", "327 of 459 GFLOP/s"},
                       {"8.1", "sequences/s", ""},
                       {"2.31 GiB", "memory", "predicted 2.29 GiB"}};
  Curve speed = noisy("", 0, 9), memory = noisy("", 0, 9), share = noisy("", 0, 9);
  for (size_t i = 0; i < speed.x.size(); ++i) {
    const double wobble = rng_uniform(rng_key(1, 0, 8), i);
    speed.y[i] = 8 + 0.3 * wobble;
    share.y[i] = 0.70 + 0.02 * wobble;
    memory.y[i] = 2.48e9 + (i > 30 ? 1.2e7 : 0);
  }
  Curve rate{.name = "", .x = speed.x, .y = {}};
  for (double x : rate.x) rate.y.push_back(1e-3 * std::min(1.0, x / 500) * std::cos(x / 3000));
  report.charts = {
      {.title = "Loss by data type",
       .y_label = "bits per byte",
       .curves = {noisy("float32", 1, 1), noisy("bfloat16", 1.02, 2), noisy("float16", 1.05, 3)},
       .smooth = true,
       .wide = true},
      {.title = "Loss", .y_label = "nats per byte", .curves = {noisy("", 0.7, 1)}, .smooth = true},
      {.title = "Speed", .y_label = "sequences per second", .curves = {speed}, .from_zero = true},
      {.title = "Memory",
       .y_label = "resident",
       .unit = Unit::bytes,
       .curves = {memory},
       .from_zero = true},
      {.title = "Share of peak",
       .y_label = "of the measured FMA rate",
       .unit = Unit::percent,
       .curves = {share},
       .from_zero = true},
      {.title = "Learning rate", .y_label = "learning rate", .curves = {rate}, .from_zero = true},
      {.title = "Gradient norm",
       .y_label = "global norm, log scale",
       .curves = {noisy("", 1, 5)},
       .log_y = true,
       .smooth = true}};
  report.tables = {{.title = "Time per operation",
                    .columns = {"operation", "calls", "total ms", "share", "GFLOP/s"},
                    .rows = {{"matmul bf16", "96", "812.4", "68.2 %", "341.0"},
                             {"flash attention backward", "8", "190.1", "16.0 %", "210.7"},
                             {"flash attention", "8", "77.0", "6.5 %", "233.1"},
                             {"loop: layer norm", "16", "61.9", "5.2 %", ""},
                             {"loop: adam", "1", "49.8", "4.1 %", ""}},
                    .bar_column = 3,
                    .note = "One step, two threads."}};
  report.texts = {{"Sample at temperature 0.8", "The <b>tree</b> & its plan\n\x01 \xFF end"}};
  report.facts = {{"Configuration", {{"layers", "8"}, {"width", "512"}, {"data", "enwik9"}}},
                  {"Machine", {{"CPU", "AMD EPYC"}, {"threads", "2"}}}};
  return report;
}

TEST(Report, IsOneClosedDocumentWithoutOutsideReferences) {
  const TestFolder dir;
  // ESPALIER_KEEP_REPORT names a file for a look at the picture.
  const char* keep = std::getenv("ESPALIER_KEEP_REPORT");
  const auto path = keep != nullptr ? std::filesystem::path(keep) : dir / "report.html";
  write_report(path, sample_report());
  const std::string html = io::read_text(path, 1 << 24, {});
  EXPECT_EQ(html, render_report(sample_report()));
  const size_t body = html.find("<body>");
  expect_balanced(html.substr(body, html.find("</html>") - body));
  for (const char* outside : {"<script", "<link", "src=", "href=", "url(", "@import"}) {
    EXPECT_EQ(html.find(outside), std::string::npos) << outside;
  }
  EXPECT_NE(html.find("byte-lm &lt;8 layers&gt;"), std::string::npos);
  EXPECT_NE(html.find("The &lt;b&gt;tree&lt;/b&gt; &amp; its plan\n\xE2\x90\x81 \xEF\xBF\xBD end"),
            std::string::npos);
  EXPECT_NE(html.find("style=\"width:100.0%\""), std::string::npos);
}

TEST(Report, ARowOfTheWrongLengthIsAnError) {
  Report report;
  report.tables = {{.title = "ops", .columns = {"a", "b"}, .rows = {{"1"}}}};
  try {
    render_report(report);
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "[report] a row of ops has 1 cells for 2 columns");
  }
}

}  // namespace
}  // namespace espalier::train
