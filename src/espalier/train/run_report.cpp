// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/run_report.h"

#include <algorithm>
#include <cmath>

#include "espalier/backend/cpu/cpu_info.h"
#include "espalier/base/text.h"
#include "espalier/base/trace.h"
#include "espalier/base/version.h"
#include "espalier/io/atomic.h"
#include "espalier/train/benchmark_loop.h"
#include "espalier/train/memory.h"
#include "espalier/train/profile.h"

namespace espalier::train {
namespace {

double median_or_zero(std::vector<double> values) {
  return values.empty() ? 0.0 : median(std::move(values));
}

std::vector<Chart> charts(const RunTask& task, const MetricsTable& metrics) {
  std::vector<Chart> result{task.loss_chart(metrics)};
  result.push_back({.title = "Speed",
                    .y_label = "sequences per second",
                    .curves = {curve_of(metrics, "sequences_per_second", "speed")},
                    .from_zero = true});
  result.push_back({.title = "Share of the machine's peak",
                    .y_label = "share of peak",
                    .unit = Unit::percent,
                    .curves = {curve_of(metrics, "share_of_peak", "share")},
                    .from_zero = true});
  result.push_back({.title = "Memory",
                    .y_label = "resident memory",
                    .unit = Unit::bytes,
                    .curves = {curve_of(metrics, "resident_bytes", "memory")},
                    .from_zero = true});
  result.push_back({.title = "Learning rate",
                    .y_label = "learning rate",
                    .curves = {curve_of(metrics, "learning_rate", "learning rate")},
                    .from_zero = true});
  return result;
}

FactList section_facts(std::string title, const CheckpointSection& section) {
  FactList list{std::move(title), {}};
  for (const auto& [name, value] : section) {
    list.facts.emplace_back(name,
                            std::visit([](const auto& v) { return fmt::format("{}", v); }, value));
  }
  return list;
}

}  // namespace

Curve curve_of(const MetricsTable& metrics, std::string_view column, std::string name) {
  auto [x, y] = metrics.series(column);
  return {std::move(name), std::move(x), std::move(y)};
}

std::vector<std::string> metric_columns(const RunTask& task) {
  std::vector<std::string> columns{"loss"};
  for (std::string& own : task.columns()) columns.push_back(std::move(own));
  columns.insert(columns.end(), {"learning_rate", "loss_scale", "sequences_per_second",
                                 "share_of_peak", "host_us", "resident_bytes", "compilations"});
  return columns;
}

void write_run_report(const std::filesystem::path& path, const RunReportInput& in) {
  const cpu::CpuInfo& machine = cpu::cpu_info();
  const double speed = median_or_zero(in.metrics.series("sequences_per_second").second);
  const double share = median_or_zero(in.metrics.series("share_of_peak").second);
  Report report;
  report.title = "Espalier: " + in.task.title();
  report.subtitle = fmt::format("{} steps of {} sequences, {}, on {}", in.loop.steps_done,
                                in.options.batch_size, in.options.data, machine.model);
  for (const auto& [name, value] : in.evaluation.numbers) {
    std::string label = name;
    std::replace(label.begin(), label.end(), '_', ' ');
    report.highlights.push_back({fmt::format("{:.3f}", value), label, "on held-out text"});
  }
  report.highlights.push_back({fmt::format("{:.3f}", in.loop.loss), "loss", "of the last step"});
  report.highlights.push_back({fmt::format("{:.1f}", speed), "sequences per second", "median"});
  report.highlights.push_back({fmt::format("{:.0f} %", 100.0 * share), "of the machine's peak",
                               fmt::format("{:.0f} GFLOP/s", in.peak_flops * 1e-9)});
  report.highlights.push_back({human_bytes(peak_resident_bytes()), "memory", "at the peak"});
  report.charts = charts(in.task, in.metrics);
  if (!in.loop.profile.empty()) {
    report.tables.push_back(profile_table(in.loop.profile, in.peak_flops));
  }
  report.facts.push_back(section_facts("Model", in.task.config()));
  report.facts.push_back(section_facts("Run", in.task.options()));
  report.facts.push_back(
      {"Machine and program",
       {{"processor", machine.model},
        {"instruction set", std::string(cpu::name(machine.isa))},
        {"cores", fmt::format("{}", machine.cores)},
        {"version", std::string(version())},
        {"compiled in", human_duration(in.stats.seconds)},
        {"compilations", fmt::format("{}", in.task.compilations())},
        {"loops", fmt::format("{} calls of {} distinct, {} from the cache", in.stats.loops,
                              in.stats.distinct_loops, in.stats.loops_from_cache)},
        {"memory predicted", human_bytes(in.stats.predicted_bytes)},
        {"work", in.task.flops_text()}}});
  write_report(path, report);
}

void write_trace(const std::filesystem::path& path, const LoopResult& loop) {
  const auto origin = TraceWriter::Clock::now();
  const auto at = [&](double seconds) {
    return origin + std::chrono::duration_cast<TraceWriter::Clock::duration>(
                        std::chrono::duration<double>(seconds));
  };
  TraceWriter trace(origin);
  trace.name_thread(0, "step");
  for (const ProfileEvent& event : loop.events) {
    const ProfileRow& row = loop.profile[static_cast<size_t>(event.row)];
    trace.add(row.label, row.kind, 0, at(event.start), at(event.start + event.seconds));
  }
  io::write_file_atomically(path, trace.json(), {.stage = "profile"});
}

}  // namespace espalier::train
