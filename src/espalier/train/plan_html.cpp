// SPDX-License-Identifier: Apache-2.0
// A picture of a placement: every parameter as a box that its cuts divide, in the colours of the
// axes, and bars of what a device holds and what a step waits for.
#include <algorithm>
#include <cmath>
#include <functional>

#include "espalier/base/error.h"
#include "espalier/base/text.h"
#include "espalier/train/chart.h"
#include "espalier/train/plan_job.h"

namespace espalier::train {
namespace {

// Colours that stay apart for colour-blind readers (Okabe and Ito).
constexpr std::string_view kColours[] = {"#E69F00", "#0072B2", "#009E73", "#CC79A7", "#D55E00"};
constexpr std::string_view kWhole = "#D8D8D8";
constexpr int64_t kMostLines = 16;  // pieces that are drawn apart along one dimension

std::string_view colour(const shard::Mesh& mesh, std::string_view axis) {
  for (size_t i = 0; i < mesh.axes().size(); ++i) {
    if (mesh.axes()[i].name == axis) return kColours[i % std::size(kColours)];
  }
  return kWhole;
}

/// Lines across a box at the borders of pieces.
std::string lines(int64_t pieces, double x, double y, double w, double h, bool across) {
  std::string svg;
  const int64_t shown = std::min(pieces, kMostLines);
  for (int64_t i = 1; i < shown; ++i) {
    const double at = static_cast<double>(i) / static_cast<double>(shown);
    svg += across ? fmt::format("<line x1='{:.1f}' x2='{:.1f}' y1='{:.1f}' y2='{:.1f}'/>", x, x + w,
                                y + at * h, y + at * h)
                  : fmt::format("<line x1='{:.1f}' x2='{:.1f}' y1='{:.1f}' y2='{:.1f}'/>",
                                x + at * w, x + at * w, y, y + h);
  }
  return svg;
}

constexpr double kFigureHeight = 84;

/// One parameter: its first dimension runs down, its last to the right. It stands on its caption.
std::string box(const nn::ParamPlacement& p, const shard::Mesh& mesh) {
  // Side lengths grow with the logarithm, so that a bias beside an embedding is still seen.
  const auto side = [](int64_t size) { return 5.0 * std::log2(static_cast<double>(size) + 1.0); };
  const int64_t rank = p.shape.rank();
  const double h = rank == 0 ? 6 : std::min(side(p.shape[0]), kFigureHeight - 4);
  const double w = rank < 2 ? 10 : side(p.shape[rank - 1]);
  const double x = 1, y = kFigureHeight - 2 - h;
  std::string fills;
  std::string_view first = kWhole, second;
  for (const shard::PartitionSpec::Cut& c : p.spec.cuts()) {
    (first == kWhole ? first : second) = colour(mesh, c.axis);
  }
  fills += fmt::format("<rect x='{:.1f}' y='{:.1f}' width='{:.1f}' height='{:.1f}' fill='{}'/>", x,
                       y, w, h, first);
  if (!second.empty()) {
    fills += fmt::format("<path d='M{:.1f} {:.1f}v{:.1f}h{:.1f}z' fill='{}'/>", x, y, h, w, second);
  }
  fills += lines(p.spec.pieces(0, mesh), x, y, w, h, true);
  if (rank >= 2) fills += lines(p.spec.pieces(rank - 1, mesh), x, y, w, h, false);
  return fills + fmt::format(
                     "<rect x='{:.1f}' y='{:.1f}' width='{:.1f}' height='{:.1f}' "
                     "fill='none' stroke='#333' stroke-width='1'/>",
                     x, y, w, h);
}

struct Part {
  std::string name;
  double value;
};
/// A stacked bar with its legend; `limit` draws a line where the device ends.
std::string bar(const std::vector<Part>& parts, double limit, const std::string& limit_text,
                const std::function<std::string(double)>& text) {
  double total = 0.0;
  for (const Part& part : parts) total += part.value;
  const double scale = 900.0 / std::max({total, limit, 1e-30});
  std::string svg = "<svg width='1000' height='84' viewBox='0 0 1000 84'>";
  double x = 0.0, legend = 0.0;
  for (size_t i = 0; i < parts.size(); ++i) {
    const std::string_view fill = kColours[i % std::size(kColours)];
    if (parts[i].value <= 0.0) continue;
    const double w = parts[i].value * scale;
    svg += fmt::format("<rect x='{:.1f}' y='6' width='{:.1f}' height='28' fill='{}'/>", x, w, fill);
    const std::string label = fmt::format("{} {}", parts[i].name, text(parts[i].value));
    svg += fmt::format(
        "<rect x='{:.1f}' y='52' width='12' height='12' fill='{}'/>"
        "<text x='{:.1f}' y='63'>{}</text>",
        legend, fill, legend + 17, html_escape(label));
    legend += 36 + 7.5 * static_cast<double>(label.size());
    x += w;
  }
  if (limit > 0.0) {
    svg += fmt::format(
        "<line x1='{0:.1f}' x2='{0:.1f}' y1='0' y2='40' style='stroke:#B00;"
        "stroke-width:2'/><text x='{0:.1f}' y='48' fill='#B00' text-anchor='end'>{1}</text>",
        std::max(limit * scale, 120.0), html_escape(limit_text));
  }
  return svg + "</svg>";
}

/// Bars one below the other, for things that happen at the same time.
std::string bars(const std::vector<Part>& parts, const std::function<std::string(double)>& text) {
  double most = 1e-30;
  for (const Part& part : parts) most = std::max(most, part.value);
  const size_t height = 24 * parts.size();
  std::string svg = fmt::format("<svg width='1000' height='{0}' viewBox='0 0 1000 {0}'>", height);
  for (size_t i = 0; i < parts.size(); ++i) {
    const double w = 700.0 * parts[i].value / most;
    svg += fmt::format(
        "<text x='0' y='{}'>{}</text><rect x='80' y='{}' width='{:.1f}' height='18' "
        "fill='{}'/><text x='{:.1f}' y='{}'>{}</text>",
        24 * i + 14, html_escape(parts[i].name), 24 * i, w, kColours[i % std::size(kColours)],
        88 + w, 24 * i + 14, html_escape(text(parts[i].value)));
  }
  return svg + "</svg>";
}

constexpr std::string_view kHead = R"(<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Shard plan</title><style>
body{font:14px/1.45 system-ui,sans-serif;margin:24px auto;max-width:1080px;color:#222}
h1{font-size:22px;margin:0 0 4px}h2{font-size:16px;margin:26px 0 8px}
svg{font:12px system-ui,sans-serif;display:block}svg line{stroke:#fff;stroke-width:1.2}
table{border-collapse:collapse}td,th{padding:3px 14px 3px 0;text-align:left;vertical-align:top}
th{border-bottom:1px solid #999}.n{text-align:right;font-variant-numeric:tabular-nums}
code{font-size:12.5px}.warn{color:#B00}.key{display:inline-block;width:12px;height:12px;
margin:0 5px 0 14px;vertical-align:-1px}.boxes{display:flex;flex-wrap:wrap;gap:10px 14px}
figure{margin:0;width:240px}figcaption{font-size:11.5px;line-height:1.3;overflow-wrap:anywhere}
figcaption span{white-space:nowrap}
</style></head><body>
)";

/// A path that may be broken after its dots.
std::string breakable(const std::string& path) {
  std::string html;
  for (const char c : html_escape(path)) {
    html += c;
    if (c == '.') html += "<wbr>";
  }
  return html;
}

std::string rules_table(const nn::PlanReport& report) {
  std::string html = "<table><tr><th>rule<th>matches paths like<th>transform<th>hits<th></tr>";
  for (size_t i = 0; i < report.rules.size(); ++i) {
    const nn::RuleReport& r = report.rules[i];
    std::string remark;
    if (r.matches == 0) {
      remark = "matches nothing";
    } else if (r.hits == 0) {
      remark =
          fmt::format("shadowed: rule {} takes all {} matches first", r.shadowed_by + 1, r.matches);
    }
    html += fmt::format(
        "<tr><td>{}<td><code>{}</code><td><code>{}</code><td class=n>{}"
        "<td class=warn>{}</tr>",
        i + 1, html_escape(r.glob), html_escape(r.transform), r.hits, remark);
  }
  return html + "</table>";
}

}  // namespace

std::string plan_html(const PlanAnswer& a) {
  const shard::Cost& c = a.cost;
  std::string html(kHead);
  html += fmt::format(
      "<h1>{}</h1><div>{} devices: {} &middot; {} of {} samples a device &middot; "
      "{} positions &middot; {} &middot; {}</div>",
      html_escape(a.model), a.mesh.devices(),
      html_escape(a.mesh.axes().empty() ? "no axes" : a.mesh.str()), c.local_batch, a.batch, a.seq,
      name(a.dtype), html_escape(a.device.name));
  const auto as_bytes = [](double b) { return human_bytes(static_cast<int64_t>(b)); };
  html += fmt::format("<h2>On one device: {}{}</h2>", as_bytes(c.total_bytes()),
                      c.fits ? "" : " <span class=warn>does not fit</span>");
  html += bar({{"parameters", c.parameter_bytes},
               {"gradients", c.gradient_bytes},
               {"moments", c.moment_bytes},
               {"activations", c.activation_bytes},
               {"gathered layer", c.gathered_bytes}},
              a.device.memory_bytes, "memory " + as_bytes(a.device.memory_bytes), as_bytes);
  html += fmt::format("<h2>A step takes at least {}; {} limits</h2>",
                      human_duration(c.step_seconds), shard::name(c.limit));
  html += bars({{"compute", c.compute_seconds},
                {"memory", c.memory_seconds},
                {"network", c.network_seconds}},
               human_duration);
  html += "<h2>Rules</h2>" + rules_table(a.report);
  for (const std::string& note : a.report.notes) {
    html += fmt::format("<p class=warn>{}</p>", html_escape(note));
  }
  html +=
      "<h2>Collectives of a step</h2><table><tr><th>kind<th>axis<th>of<th class=n>count"
      "<th class=n>bytes<th class=n>sent by a device<th class=n>time</tr>";
  for (const shard::Collective& k : c.collectives) {
    html += fmt::format(
        "<tr><td>{}<td>{}<td>{}<td class=n>{}<td class=n>{}<td class=n>{}"
        "<td class=n>{}</tr>",
        shard::name(k.kind), html_escape(k.axis), k.what, k.count, as_bytes(k.bytes),
        as_bytes(k.sent_bytes), human_duration(k.seconds));
  }
  html +=
      "</table><h2>Parameters</h2><div>Each box is one parameter, its first dimension downwards; "
      "side lengths are logarithmic.";
  for (const shard::MeshAxis& axis : a.mesh.axes()) {
    html += fmt::format("<span class=key style='background:{}'></span>cut along {} ({})",
                        colour(a.mesh, axis.name), html_escape(axis.name), axis.size);
  }
  html += fmt::format(
      "<span class=key style='background:{}'></span>whole</div><p><div class=boxes>", kWhole);
  for (const PlacementGroup& g : group_placements(a.params)) {
    const nn::ParamPlacement& p = *g.first;
    html += fmt::format(
        "<figure><svg width='240' height='{0}' viewBox='0 0 240 {0}'>{1}</svg>"
        "<figcaption>{2}<br><span>{3}{4} {5}</span> <span>&middot; {6}{7}</span></figcaption>"
        "</figure>",
        kFigureHeight, box(p, a.mesh), breakable(g.path), name(p.dtype), p.shape.str(),
        html_escape(p.spec.str(p.shape.rank())), human_bytes(p.local_bytes()),
        g.count > 1 ? fmt::format(" &times; {}", g.count) : "");
  }
  return html + "</div></body></html>\n";
}

}  // namespace espalier::train
