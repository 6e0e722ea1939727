// SPDX-License-Identifier: Apache-2.0
// The answer of a plan as text and as JSON.
#include "espalier/base/error.h"
#include "espalier/base/text.h"
#include "espalier/io/json.h"
#include "espalier/train/plan_job.h"

namespace espalier::train {
namespace {

using Json = nlohmann::ordered_json;

/// A path with its first list index taken out.
struct Split {
  std::string_view before, after;
  int64_t index = -1;
};
Split split(const std::string& path) {
  const std::string_view block = shard::block_of(path);
  if (block.empty()) return {path, {}, -1};
  const size_t dot = block.rfind('.');
  const size_t begin = dot == std::string_view::npos ? 0 : dot + 1;
  return {block.substr(0, begin), std::string_view(path).substr(block.size()),
          std::stoll(std::string(block.substr(begin)))};
}

std::string bytes(double value) { return human_bytes(static_cast<int64_t>(value)); }

std::string count_text(double value) {
  if (value >= 1e9) return fmt::format("{:.2f}B", value / 1e9);
  if (value >= 1e6) return fmt::format("{:.1f}M", value / 1e6);
  return fmt::format("{:.0f}", value);
}

std::string rules_text(const nn::ParamPlacement& p, const nn::PlanReport& report) {
  std::vector<std::string> texts;
  for (const int32_t rule : p.rules) {
    const nn::RuleReport& r = report.rules[static_cast<size_t>(rule)];
    std::string text = fmt::format("{}: {}", rule + 1, r.transform);
    if (std::find(texts.begin(), texts.end(), text) == texts.end()) texts.push_back(text);
  }
  return texts.empty() ? "-" : fmt::format("{}", fmt::join(texts, "; "));
}

std::string rule_lines(const nn::PlanReport& report) {
  std::string text;
  for (size_t i = 0; i < report.rules.size(); ++i) {
    const nn::RuleReport& r = report.rules[i];
    text += fmt::format("  {:>2}  {:<32} {:<26} {:>5} hits", i + 1, r.glob, r.transform, r.hits);
    if (r.matches == 0) {
      text += "   matches nothing";
    } else if (r.hits == 0) {
      text += fmt::format("   shadowed: rule {} takes all {} matches first", r.shadowed_by + 1,
                          r.matches);
    }
    text += '\n';
  }
  return text;
}

std::string collective_lines(const shard::Cost& cost) {
  std::string text;
  for (const shard::Collective& c : cost.collectives) {
    text += fmt::format("  {:<14} over {:<8} {:<22} {:>5} a step, {:>9} in all, {:>9} sent, {}{}\n",
                        shard::name(c.kind), c.axis, c.what, c.count, bytes(c.bytes),
                        bytes(c.sent_bytes), human_duration(c.seconds),
                        c.blocking ? ", products wait for it" : "");
  }
  return text.empty() ? "  none\n" : text;
}

Json cost_json(const shard::Cost& cost) {
  Json collectives = Json::array();
  for (const shard::Collective& c : cost.collectives) {
    collectives.push_back({{"kind", std::string(shard::name(c.kind))},
                           {"axis", c.axis},
                           {"what", c.what},
                           {"count", c.count},
                           {"bytes", c.bytes},
                           {"sent_bytes", c.sent_bytes},
                           {"seconds", c.seconds},
                           {"blocking", c.blocking}});
  }
  return {{"parameters", cost.parameters},
          {"local_batch", cost.local_batch},
          {"bytes_per_device",
           {{"parameters", cost.parameter_bytes},
            {"gradients", cost.gradient_bytes},
            {"moments", cost.moment_bytes},
            {"activations", cost.activation_bytes},
            {"gathered", cost.gathered_bytes},
            {"total", cost.total_bytes()}}},
          {"fits", cost.fits},
          {"flops_per_device", cost.flops},
          {"collectives", std::move(collectives)},
          {"seconds",
           {{"compute", cost.compute_seconds},
            {"memory", cost.memory_seconds},
            {"network", cost.network_seconds},
            {"step", cost.step_seconds}}},
          {"limit", std::string(shard::name(cost.limit))}};
}

}  // namespace

std::vector<PlacementGroup> group_placements(const std::vector<nn::ParamPlacement>& params) {
  struct Open {
    Split at;
    int64_t last;
    size_t group;
  };
  std::vector<PlacementGroup> groups;
  std::vector<Open> open;  // groups of the list that is being walked
  for (const nn::ParamPlacement& p : params) {
    const Split at = split(p.path);
    Open* same = nullptr;
    for (Open& o : open) {
      const nn::ParamPlacement& first = *groups[o.group].first;
      const bool alike = at.index >= 0 && o.at.before == at.before && o.at.after == at.after &&
                         o.last + 1 == at.index && first.shape == p.shape &&
                         first.dtype == p.dtype && first.spec == p.spec && first.rules == p.rules &&
                         first.trainable == p.trainable;
      if (alike) same = &o;
    }
    if (same == nullptr) {
      groups.push_back({p.path, 1, &p});
      if (at.index >= 0) open.push_back({at, at.index, groups.size() - 1});
      continue;
    }
    same->last = at.index;
    ++groups[same->group].count;
    groups[same->group].path =
        fmt::format("{}[{}-{}]{}", at.before, same->at.index, at.index, at.after);
  }
  return groups;
}

std::string plan_text(const PlanAnswer& a, bool all) {
  std::string text = fmt::format("{} on {} ({} device{})\n\nrules\n", a.model,
                                 a.mesh.axes().empty() ? "one device" : a.mesh.str(),
                                 a.mesh.devices(), a.mesh.devices() == 1 ? "" : "s");
  text += a.report.rules.empty() ? "  none: every parameter is whole on every device\n"
                                 : rule_lines(a.report);
  for (const std::string& note : a.report.notes) text += fmt::format("  note: {}\n", note);

  std::vector<PlacementGroup> groups;
  if (all) {
    for (const nn::ParamPlacement& p : a.params) groups.push_back({p.path, 1, &p});
  } else {
    groups = group_placements(a.params);
  }
  size_t width = 9;
  for (const PlacementGroup& g : groups) width = std::max(width, g.path.size());
  text += fmt::format("\n{:<{}}  {:<18} {:<16} {:>11}  rules\n", "parameter", width, "shape",
                      "placement", "on a device");
  for (const PlacementGroup& g : groups) {
    const nn::ParamPlacement& p = *g.first;
    const std::string each = g.count > 1 ? fmt::format(" x {}", g.count) : "";
    text += fmt::format(
        "{:<{}}  {:<18} {:<16} {:>11}  {}{}{}\n", g.path, width,
        std::string(name(p.dtype)) + p.shape.str(), p.spec.str(p.shape.rank()),
        human_bytes(p.local_bytes()) + each, rules_text(p, a.report),
        p.trainable ? "" : " (frozen)",
        p.tied_paths.empty() ? "" : fmt::format(" (also {})", fmt::join(p.tied_paths, ", ")));
  }

  const shard::Cost& c = a.cost;
  int64_t parts = 0;
  text += fmt::format("\n{} parameters in {} arrays", count_text(static_cast<double>(c.parameters)),
                      a.params.size());
  // The parts of the tree: what others count may leave out a head.
  std::vector<std::pair<std::string, int64_t>> by_part;
  for (const nn::ParamPlacement& p : a.params) {
    const std::string part = p.path.substr(0, p.path.find('.'));
    if (by_part.empty() || by_part.back().first != part) by_part.emplace_back(part, 0);
    by_part.back().second += p.shape.numel();
  }
  for (const auto& [part, numel] : by_part) {
    text += fmt::format("{}{} {}", parts++ == 0 ? " (" : ", ", part,
                        count_text(static_cast<double>(numel)));
  }
  text += parts > 0 ? ")\n" : "\n";
  text += fmt::format(
      "\non one device, {} of {} samples x {} positions, {}\n"
      "  parameters {}, gradients {}, moments {}, activations {}{}\n  total {} of {}{}\n",
      c.local_batch, a.batch, a.seq, name(a.dtype), bytes(c.parameter_bytes),
      bytes(c.gradient_bytes), bytes(c.moment_bytes), bytes(c.activation_bytes),
      c.gathered_bytes > 0 ? fmt::format(", largest gathered layer {}", bytes(c.gathered_bytes))
                           : "",
      bytes(c.total_bytes()), bytes(a.device.memory_bytes), c.fits ? "" : ": DOES NOT FIT");
  text += "\ncollectives\n" + collective_lines(c);
  text += fmt::format(
      "\na step on {} takes at least {}: compute {} ({:.3g} TFLOP), memory {} ({}), network {}; "
      "{} limits\n",
      a.device.name, human_duration(c.step_seconds), human_duration(c.compute_seconds),
      c.flops * 1e-12, human_duration(c.memory_seconds), bytes(c.moved_bytes),
      human_duration(c.network_seconds), shard::name(c.limit));
  return text;
}

std::string sweep_text(const std::vector<SweepRow>& rows, const PlanJobOptions& options) {
  std::string text = fmt::format(
      "{} on {}, {} samples a step, best first\n\n{:<26} {:>10} {:>10} "
      "{:>10} {:>10} {:>11}  limit\n",
      options.model, options.device.name, options.batch, "mesh", "step", "compute", "memory",
      "network", "on a device");
  for (const SweepRow& row : rows) {
    if (!row.error.empty()) {
      text += fmt::format("{:<26} {}\n", row.mesh.str(), row.error);
      continue;
    }
    const shard::Cost& c = row.cost;
    text +=
        fmt::format("{:<26} {:>10} {:>10} {:>10} {:>10} {:>11}  {}{}\n", row.mesh.str(),
                    human_duration(c.step_seconds), human_duration(c.compute_seconds),
                    human_duration(c.memory_seconds), human_duration(c.network_seconds),
                    bytes(c.total_bytes()), shard::name(c.limit), c.fits ? "" : ", does not fit");
  }
  return text;
}

std::string plan_json(const PlanAnswer& a) {
  Json rules = Json::array();
  for (const nn::RuleReport& r : a.report.rules) {
    Json rule{{"plan", r.plan_name},
              {"match", r.glob},
              {"apply", r.transform},
              {"matches", r.matches},
              {"hits", r.hits}};
    if (r.hits == 0 && r.matches > 0) rule["shadowed_by"] = r.shadowed_by;
    rules.push_back(std::move(rule));
  }
  Json params = Json::array();
  for (const nn::ParamPlacement& p : a.params) {
    Json param{{"path", p.path},
               {"shape", p.shape.dims()},
               {"dtype", std::string(name(p.dtype))},
               {"placement", p.spec.str(p.shape.rank())},
               {"local_shape", p.local_shape.dims()},
               {"bytes_per_device", p.local_bytes()},
               {"rules", p.rules},
               {"trainable", p.trainable}};
    if (!p.tied_paths.empty()) param["tied_paths"] = p.tied_paths;
    params.push_back(std::move(param));
  }
  Json answer{{"model", a.model},
              {"mesh", a.mesh.str()},
              {"devices", a.mesh.devices()},
              {"device", a.device.key},
              {"batch", a.batch},
              {"seq", a.seq},
              {"dtype", std::string(name(a.dtype))},
              {"leaves", a.params.size()},
              {"hits", a.report.hit_count()},
              {"rules", std::move(rules)},
              {"notes", a.report.notes},
              {"params", std::move(params)}};
  answer.update(cost_json(a.cost));
  return answer.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string sweep_json(const std::vector<SweepRow>& rows) {
  Json list = Json::array();
  for (const SweepRow& row : rows) {
    Json entry{{"mesh", row.mesh.str()}};
    if (row.error.empty()) {
      entry.update(cost_json(row.cost));
    } else {
      entry["error"] = row.error;
    }
    list.push_back(std::move(entry));
  }
  return Json{{"sweep", std::move(list)}}.dump();
}

}  // namespace espalier::train
