// SPDX-License-Identifier: Apache-2.0
// How the time of BERT's step grows with layers, and with the sequence at constant tokens.
#include <algorithm>
#include <numeric>

#include "espalier/base/error.h"
#include "espalier/tensor/dtype_names.h"
#include "espalier/train/bench_bert.h"

namespace espalier::train {
namespace {

constexpr int64_t kLayers[] = {2, 4, 8, 12};
constexpr int64_t kSequences[] = {128, 256, 512, 1024, 2048};

/// Of essential work, if it ran at the speed of the first point.
Curve at_constant_speed(const Curve& measured, const std::vector<const BertBenchResult*>& points) {
  Curve curve{.name = "at the first point's FLOP/s", .x = measured.x, .y = {}};
  const double gflops = points.front()->gflops;
  for (const BertBenchResult* r : points) {
    curve.y.push_back(r->times.step_seconds * r->gflops / gflops);
  }
  return curve;
}

Chart chart_of(const char* title, const char* x_label,
               const std::vector<const BertBenchResult*>& points, int64_t BertBenchSetting::*size) {
  Curve curve{.name = "measured", .x = {}, .y = {}};
  for (const BertBenchResult* r : points) {
    curve.x.push_back(static_cast<double>(r->setting.*size));
    curve.y.push_back(r->times.step_seconds);
  }
  return {.title = title,
          .x_label = x_label,
          .y_label = "seconds a step",
          .curves = {curve, at_constant_speed(curve, points)},
          .from_zero = true};
}

}  // namespace

std::vector<BertBenchSetting> growth_settings(const BertBenchSetting& base) {
  std::vector<BertBenchSetting> settings;
  for (const int64_t layers : kLayers) {
    settings.push_back(base);
    settings.back().layers = layers;
  }
  const int64_t tokens = base.batch * base.seq;
  ESPALIER_CHECK(tokens % std::reduce(std::begin(kSequences), std::end(kSequences), int64_t{1},
                                      [](int64_t a, int64_t b) { return std::lcm(a, b); }) ==
                     0,
                 ErrorKind::user, "bench",
                 "--growth needs a multiple of 2048 tokens a step, --batch {} times --seq {} is {}",
                 base.batch, base.seq, tokens);
  for (const int64_t seq : kSequences) {
    settings.push_back(base);
    settings.back().seq = seq;
    settings.back().batch = tokens / seq;
  }
  return settings;
}

Report growth_report(const std::vector<BertBenchResult>& results) {
  const size_t layers = std::min(std::size(kLayers), results.size());
  std::vector<const BertBenchResult*> by_layers, by_sequence;
  ReportTable table{.title = "Every point",
                    .columns = {"layers", "batch x sequence", "s a step", "GFLOP/s", "of the peak",
                                "memory, MB"}};
  for (size_t i = 0; i < results.size(); ++i) {
    const BertBenchResult& r = results[i];
    (i < layers ? by_layers : by_sequence).push_back(&r);
    table.rows.push_back(
        {std::to_string(r.setting.layers), fmt::format("{} x {}", r.setting.batch, r.setting.seq),
         fmt::format("{:.3f}", r.times.step_seconds), fmt::format("{:.1f}", r.gflops),
         fmt::format("{:.1f} %", 100.0 * r.share_of_peak),
         fmt::format("{:.0f}", 1e-6 * static_cast<double>(r.times.memory_peak_bytes))});
  }
  const BertBenchSetting& s = results.front().setting;
  Report report{.title = "Espalier: growth of BERT's training step",
                .subtitle = fmt::format("hidden size {}, {}, dropout {}, attention {}; {} tokens a "
                                        "step",
                                        s.hidden, long_name(s.dtype), s.dropout,
                                        s.flash ? "fused" : "eager", s.batch * s.seq),
                .tables = {std::move(table)}};
  report.charts.push_back(
      chart_of("Step time against layers", "layers", by_layers, &BertBenchSetting::layers));
  if (!by_sequence.empty()) {
    report.charts.push_back(chart_of("Step time against the sequence, tokens constant",
                                     "positions of a sequence", by_sequence,
                                     &BertBenchSetting::seq));
  }
  return report;
}

}  // namespace espalier::train
