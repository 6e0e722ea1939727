// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/run_report.h"

#include <fmt/format.h>

#include <algorithm>

#include "espalier/base/text.h"

namespace espalier::extract {
namespace {

using Json = nlohmann::ordered_json;

size_t name_width(std::span<const HookReport> hooks) {
  size_t width = 10;
  for (const HookReport& hook : hooks) width = std::max(width, hook.name.size());
  return width;
}

/// Lines about what stands out in one activation.
std::string outliers_text(const HookReport& hook, size_t width) {
  const HookSummary& s = hook.summary;
  std::string text;
  if (s.outlier_channels > 0) {
    std::vector<std::string> channels;
    for (const Outlier& channel : s.channels) {
      channels.push_back(
          fmt::format("{} ({:.0f}x)", channel.index, channel.value / s.channel_median));
    }
    text += fmt::format("{:{}}  {} channels above {:.0f}x the median: {}\n", hook.name, width,
                        s.outlier_channels, kOutlierChannel, fmt::join(channels, ", "));
  }
  if (s.high_norm_tokens > 0 && !hook.largest.empty()) {
    const HookReport::Token& first = hook.largest.front();
    text += fmt::format(
        "{:{}}  {} tokens above {:.0f}x the median norm, the largest in sample {} ({}) at position "
        "{}, token {}\n",
        hook.name, width, s.high_norm_tokens, kHighNorm, first.place.sample, first.place.sample_id,
        first.place.position, first.place.token_id);
  }
  return text;
}

double ratio(int64_t raw, int64_t stored) {
  return stored > 0 ? static_cast<double>(raw) / static_cast<double>(stored) : 1.0;
}

std::string stored_text(int64_t raw, int64_t stored, bool compressed) {
  if (!compressed) return human_bytes(stored);
  return fmt::format("{} ({:.2f}x compressed)", human_bytes(stored), ratio(raw, stored));
}

}  // namespace

std::string statistics_text(std::span<const HookReport> hooks) {
  if (hooks.empty()) return {};
  const size_t width = name_width(hooks);
  std::string text = fmt::format("{:{}}  {:>10} {:>10} {:>10} {:>10} {:>10}\n", "activation", width,
                                 "mean", "std", "norm mean", "median", "max");
  for (const HookReport& hook : hooks) {
    const HookSummary& s = hook.summary;
    text += fmt::format("{:{}}  {:10.4g} {:10.4g} {:10.4g} {:10.4g} {:10.4g}\n", hook.name, width,
                        s.mean, s.std, s.norm_mean, s.norm_median, s.norm_max);
  }
  for (const HookReport& hook : hooks) text += outliers_text(hook, width);
  return text;
}

Json statistics_json(std::span<const HookReport> hooks) {
  Json all = Json::array();
  for (const HookReport& hook : hooks) {
    const HookSummary& s = hook.summary;
    Json channels = Json::array(), tokens = Json::array();
    for (const Outlier& channel : s.channels) {
      channels.push_back({{"channel", channel.index},
                          {"rms", channel.value},
                          {"times_median", channel.value / s.channel_median}});
    }
    for (const HookReport::Token& token : hook.largest) {
      tokens.push_back({{"norm", token.norm},
                        {"sample", token.place.sample},
                        {"sample_id", token.place.sample_id},
                        {"position", token.place.position},
                        {"token_id", token.place.token_id}});
    }
    all.push_back({{"name", hook.name},
                   {"tokens", s.tokens},
                   {"not_finite", s.not_finite},
                   {"mean", s.mean},
                   {"std", s.std},
                   {"norm_mean", s.norm_mean},
                   {"norm_median", s.norm_median},
                   {"norm_max", s.norm_max},
                   {"outlier_channels", s.outlier_channels},
                   {"channels", channels},
                   {"high_norm_tokens", s.high_norm_tokens},
                   {"largest_tokens", tokens}});
  }
  return all;
}

std::string verify_text(const VerifyReport& report) {
  std::string text;
  for (const std::string& line : report.wrong) text += line + "\n";
  text += statistics_text(report.hooks);
  if (!report.damaged.empty()) {
    text += fmt::format("{} damaged shards; the same extract command makes them again: {}\n",
                        report.damaged.size(), fmt::join(report.damaged, ", "));
  }
  text += fmt::format(
      "{} shards, {} samples, {} tokens, {} in {}: {}\n", report.shards, report.samples,
      report.tokens, human_bytes(report.bytes), human_duration(report.seconds),
      report.pass() ? "every sample once, every checksum right" : "NOT as it should be");
  return text;
}

Json verify_json(const VerifyReport& report) {
  return {{"pass", report.pass()},
          {"shards", report.shards},
          {"samples", report.samples},
          {"tokens", report.tokens},
          {"bytes", report.bytes},
          {"raw_bytes", report.raw_bytes},
          {"not_finite", report.not_finite},
          {"damaged", report.damaged},
          {"wrong", report.wrong},
          {"seconds", report.seconds},
          {"hooks", statistics_json(report.hooks)}};
}

std::string inspect_text(const InspectReport& report) {
  const RunIndex& index = report.index;
  std::string text = fmt::format(
      "{}: {} shards, {} samples, {} tokens, {}\n{} activations [{}, {}] in {}\n",
      index.complete ? "complete" : "not complete yet", index.entries.size(), index.samples(),
      index.tokens(),
      stored_text(index.raw_bytes(), index.bytes(), report.compression != Compression::none),
      report.hooks.size(), index.tokens(), report.width, name(report.dtype));
  const Json settings = io::try_parse_ordered_json(index.settings);
  if (settings.is_object()) {
    for (const auto& [key, value] : settings.items()) {
      if (key == "hooks") continue;  // in the table
      const std::string shown = value.is_string() ? value.get<std::string>() : value.dump();
      text += fmt::format("  {}: {}\n", key, shown);
    }
  }
  return text + statistics_text(report.hooks);
}

Json inspect_json(const InspectReport& report) {
  const RunIndex& index = report.index;
  const Json settings = io::try_parse_ordered_json(index.settings);
  return {{"complete", index.complete},
          {"shards", index.entries.size()},
          {"samples", index.samples()},
          {"tokens", index.tokens()},
          {"bytes", index.bytes()},
          {"raw_bytes", index.raw_bytes()},
          {"ratio", ratio(index.raw_bytes(), index.bytes())},
          {"dtype", std::string(name(report.dtype))},
          {"width", report.width},
          {"shape", {index.tokens(), report.width}},
          {"compression", std::string(name(report.compression))},
          {"run", settings.is_discarded() ? Json() : settings},
          {"hooks", statistics_json(report.hooks)}};
}

}  // namespace espalier::extract
