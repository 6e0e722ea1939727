// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <utility>

namespace espalier::train {
namespace {

/// "layers.11.mlp:..." -> "layers.*.mlp:..."
std::string without_numbers(const std::string& label) {
  std::string text;
  for (size_t i = 0; i < label.size(); ++i) {
    const bool starts = i > 0 && label[i - 1] == '.' && std::isdigit(label[i]) != 0;
    if (!starts) {
      text += label[i];
      continue;
    }
    while (i + 1 < label.size() && std::isdigit(label[i + 1]) != 0) ++i;
    text += '*';
  }
  return text;
}

double total_seconds(const std::vector<ProfileGroup>& groups) {
  double total = 0.0;
  for (const ProfileGroup& g : groups) total += g.seconds;
  return total;
}

}  // namespace

std::vector<ProfileGroup> group_profile(const std::vector<ProfileRow>& rows) {
  std::map<std::pair<std::string, std::string>, ProfileGroup> by_label;
  for (const ProfileRow& row : rows) {
    if (row.calls == 0) continue;
    const auto calls = static_cast<double>(row.calls);
    std::string label = without_numbers(row.label);
    ProfileGroup& group = by_label[{row.kind, label}];
    group.kind = row.kind;
    group.label = std::move(label);
    group.seconds += row.seconds / calls;
    group.flops += row.flops / calls;
    group.bytes += row.bytes / calls;
    ++group.kernels;
  }
  std::vector<ProfileGroup> groups;
  groups.reserve(by_label.size());
  for (auto& [label, group] : by_label) groups.push_back(std::move(group));
  std::stable_sort(groups.begin(), groups.end(), [](const ProfileGroup& a, const ProfileGroup& b) {
    return a.seconds > b.seconds;
  });
  return groups;
}

std::string profile_text(const std::vector<ProfileRow>& rows, size_t lines) {
  const std::vector<ProfileGroup> groups = group_profile(rows);
  const double total = total_seconds(groups);
  std::string text;
  for (size_t i = 0; i < std::min(lines, groups.size()); ++i) {
    const ProfileGroup& g = groups[i];
    text += fmt::format("{:>9.2f} ms {:>5.1f} % {:>4}x {:>7.1f} GFLOP/s {:>6.1f} GB/s  {} {}\n",
                        g.seconds * 1e3, 100.0 * g.seconds / total, g.kernels,
                        g.flops / g.seconds * 1e-9, g.bytes / g.seconds * 1e-9, g.kind, g.label);
  }
  return text;
}

ReportTable profile_table(const std::vector<ProfileRow>& rows, double peak) {
  ReportTable table{
      .title = "Where the time of a step goes",
      .columns = {"kernel", "kind", "number", "ms", "share", "GFLOP/s", "% of peak", "GB/s"},
      .rows = {},
      .bar_column = 4};
  const std::vector<ProfileGroup> groups = group_profile(rows);
  const double total = total_seconds(groups);
  const auto rate = [](double amount, double seconds) {
    return amount > 0.0 && seconds > 0.0 ? fmt::format("{:.1f}", amount / seconds * 1e-9)
                                         : std::string();
  };
  constexpr size_t kMost = 60;
  double rest = 0.0;
  for (size_t i = 0; i < groups.size(); ++i) {
    const ProfileGroup& g = groups[i];
    if (i >= kMost) {
      rest += g.seconds;
      continue;
    }
    table.rows.push_back(
        {g.label, g.kind, fmt::format("{}", g.kernels), fmt::format("{:.3f}", g.seconds * 1e3),
         fmt::format("{:.1f} %", 100.0 * g.seconds / total), rate(g.flops, g.seconds),
         g.flops > 0.0 && peak > 0.0 ? fmt::format("{:.1f} %", 100.0 * g.flops / g.seconds / peak)
                                     : std::string(),
         rate(g.bytes, g.seconds)});
  }
  table.note = fmt::format("{:.2f} ms in all kernels of a step", total * 1e3);
  if (rest > 0.0) table.note += fmt::format(", {:.2f} ms of it in shorter ones", rest * 1e3);
  table.note += "; kernels that differ by the number of their layer are one row";
  return table;
}

}  // namespace espalier::train
