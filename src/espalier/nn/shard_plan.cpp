// SPDX-License-Identifier: Apache-2.0
#include "espalier/nn/shard_plan.h"

#include <algorithm>
#include <unordered_map>

#include "espalier/base/error.h"
#include "espalier/nn/plan_run.h"

namespace espalier::nn {
using shard::TransformKind;

PlanTransform column_parallel(std::string axis, int64_t stacked) {
  return {{.kind = TransformKind::column_parallel, .axis = std::move(axis), .stacked = stacked}};
}
PlanTransform row_parallel(std::string axis) {
  return {{.kind = TransformKind::row_parallel, .axis = std::move(axis)}};
}
PlanTransform fully_shard(std::string axis, int64_t min_size) {
  return {{.kind = TransformKind::fully_shard, .axis = std::move(axis), .min_size = min_size}};
}
PlanTransform tensor_parallel(std::string axis, int64_t dim) {
  ESPALIER_CHECK(dim >= 0, ErrorKind::user, "plan", "tensor_parallel cuts dimension {}", dim);
  return {{.kind = TransformKind::tensor_parallel, .axis = std::move(axis), .dim = dim}};
}
PlanTransform replicate() { return {{.kind = TransformKind::replicate}}; }
PlanTransform freeze() { return {{.kind = TransformKind::freeze}}; }
PlanTransform with_dtype(DType dtype) {
  ESPALIER_CHECK(is_float(dtype), ErrorKind::user, "plan", "{} is no type for parameters",
                 name(dtype));
  return {{.kind = TransformKind::with_dtype, .dtype = dtype}};
}

Plan::Plan(const shard::PlanText& text) : name_(text.name) {
  for (const shard::RuleText& rule : text.rules) add(rule.glob, {rule.transform}, rule.optional);
}

Plan& Plan::add(std::string glob, PlanTransform transform, bool optional) {
  rules_.push_back({Glob(std::move(glob)), std::move(transform), optional});
  return *this;
}

std::vector<Plan> plans_of(const std::vector<shard::PlanText>& texts) {
  return {texts.begin(), texts.end()};
}

std::vector<int32_t> PlanReport::shadowed() const {
  std::vector<int32_t> found;
  for (size_t i = 0; i < rules.size(); ++i) {
    if (rules[i].hits == 0 && rules[i].matches > 0) found.push_back(static_cast<int32_t>(i));
  }
  return found;
}

std::vector<int32_t> PlanReport::unmatched() const {
  std::vector<int32_t> found;
  for (size_t i = 0; i < rules.size(); ++i) {
    if (rules[i].matches == 0) found.push_back(static_cast<int32_t>(i));
  }
  return found;
}

std::string PlanReport::rule_text(int32_t rule) const {
  const RuleReport& r = rules[static_cast<size_t>(rule)];
  return fmt::format("'{}={}' of plan {}", r.glob, r.transform,
                     r.plan_name.empty() ? std::to_string(r.plan + 1) : r.plan_name);
}

void PlanReport::note(std::string text) {
  if (std::find(notes.begin(), notes.end(), text) == notes.end()) notes.push_back(std::move(text));
}

namespace detail {

PlanReport apply_plans(ModuleRef model, const shard::Mesh& mesh, const std::vector<Plan>& plans) {
  PlanReport report;
  for (size_t i = 0; i < plans.size(); ++i) {
    PlanRun run(mesh, plans[i], static_cast<int32_t>(i), report);
    TiedLeaves tied;
    std::string path;
    model.walk(
        path,
        [&](std::string_view at, Param& param) {
          if (param.absent) return;
          tied.note(at, param);
          run.leaf(at, param);
        },
        [&](std::string_view at, ModuleRef module) {
          if (!at.empty()) run.module(at, module);
        });
    run.finish(model);
    if (tied.empty()) continue;
    for_each_param(
        model, [&](std::string_view at, Param& p) { tied.find_owner(at, p); }, Tied::skip);
    tied.settle(mesh, report);
  }
  return report;
}

std::vector<ParamPlacement> explain(ModuleRef model, const PlanReport& report,
                                    const shard::Mesh& mesh) {
  const std::vector<LeafEntry> leaves = leaves_of(model, Tied::visit);
  std::unordered_map<std::string_view, std::vector<int32_t>> hits;
  for (const PlanReport::Hit& hit : report.hits) hits[hit.path].push_back(hit.rule);
  std::vector<ParamPlacement> result;
  std::unordered_map<std::string, size_t> owner_at;
  const auto add_rules = [&](std::string_view path, ParamPlacement& to) {
    for (;;) {
      const auto found = hits.find(path);
      if (found != hits.end()) {
        to.rules.insert(to.rules.end(), found->second.begin(), found->second.end());
      }
      const size_t dot = path.rfind('.');
      if (dot == std::string_view::npos) return;
      path = path.substr(0, dot);
    }
  };
  for (const auto& [path, param] : leaves) {
    if (!param->tied_to.empty()) continue;
    owner_at.emplace(path, result.size());
    ParamPlacement& p = result.emplace_back(
        ParamPlacement{.path = path,
                       .tied_paths = {},
                       .shape = param->shape,
                       .dtype = param->dtype,
                       .trainable = param->trainable,
                       .spec = param->placement.spec,
                       .local_shape = param->placement.spec.local_shape(param->shape, mesh),
                       .rules = {}});
    add_rules(path, p);
  }
  for (const auto& [path, param] : leaves) {
    if (param->tied_to.empty()) continue;
    const auto owner = owner_at.find(param->tied_to);
    if (owner == owner_at.end()) continue;
    ParamPlacement& p = result[owner->second];
    p.tied_paths.push_back(path);
    add_rules(path, p);
  }
  return result;
}

}  // namespace detail
}  // namespace espalier::nn
