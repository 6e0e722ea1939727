// SPDX-License-Identifier: Apache-2.0
#include "espalier/nn/plan_run.h"

#include <algorithm>

#include "espalier/base/error.h"

namespace espalier::nn::detail {
namespace {

using shard::TransformKind;

/// Whether a transform works on a single parameter too.
bool takes_leaves(TransformKind kind) {
  return kind != TransformKind::column_parallel && kind != TransformKind::row_parallel &&
         kind != TransformKind::function;
}

std::vector<std::string> module_paths(ModuleRef root) {
  std::vector<std::string> paths;
  for_each_module(
      root, [&](std::string_view path, ModuleRef) { paths.emplace_back(path); }, Root::skip);
  return paths;
}

}  // namespace

PlanRun::PlanRun(const shard::Mesh& mesh, const Plan& plan, int32_t index, PlanReport& report)
    : mesh_(mesh),
      plan_(plan),
      first_rule_(static_cast<int32_t>(report.rules.size())),
      report_(report) {
  for (const PlanRule& rule : plan.rules()) {
    report.rules.push_back({.plan = index,
                            .plan_name = plan.name(),
                            .glob = rule.glob.pattern(),
                            .transform = rule.transform.data.str()});
    const std::string& axis = rule.transform.data.axis;
    if (axis.empty()) continue;
    ESPALIER_CONTEXT("rule {}", report.rule_text(static_cast<int32_t>(report.rules.size()) - 1));
    mesh.size(axis);
  }
}

int32_t PlanRun::take(std::string_view path, bool is_leaf) {
  int32_t taker = -1;
  const std::vector<PlanRule>& rules = plan_.rules();
  for (size_t i = 0; i < rules.size(); ++i) {
    if (!rules[i].glob.matches(path)) continue;
    if (is_leaf && !takes_leaves(rules[i].transform.data.kind)) continue;
    const int32_t index = first_rule_ + static_cast<int32_t>(i);
    RuleReport& report = report_.rules[static_cast<size_t>(index)];
    ++report.matches;
    if (taker < 0) {
      taker = index;
      ++report.hits;
      report_.hits.push_back({std::string(path), index});
    } else if (report.shadowed_by < 0) {
      report.shadowed_by = taker;
    }
  }
  return taker;
}

void PlanRun::leaf(std::string_view path, Param& param) {
  const int32_t rule = take(path, true);
  if (rule < 0) return;
  ESPALIER_CONTEXT("{}, rule {}", path, report_.rule_text(rule));
  apply(rule, path, param);
}

void PlanRun::module(std::string_view path, ModuleRef module) {
  const int32_t rule = take(path, false);
  if (rule < 0) return;
  ESPALIER_CONTEXT("{}, rule {}", path, report_.rule_text(rule));
  const shard::Transform& t = data(rule);
  if (t.kind == TransformKind::function) {
    plan_.rules()[static_cast<size_t>(rule - first_rule_)].transform.function(module, path);
    return;
  }
  if (!takes_leaves(t.kind)) {
    apply_parallel(rule, path, module);
    return;
  }
  scratch_ = path;
  module.for_each_param(scratch_, [&](std::string_view at, Param& param) {
    // A bias has no second dimension; it stays whole.
    if (t.kind == TransformKind::tensor_parallel && param.shape.rank() <= t.dim) return;
    apply(rule, at, param);
  });
}

void PlanRun::apply(int32_t rule, std::string_view path, Param& param) {
  const shard::Transform& t = data(rule);
  shard::Placement& placement = param.placement;
  switch (t.kind) {
    case TransformKind::fully_shard:
      if (param.shape.numel() < t.min_size || stays_whole(rule, path, param)) return;
      if (shard::place_largest(placement.spec, param.shape, t.axis, mesh_)) {
        placement.rule = rule;
      } else if (param.tied_to.empty()) {
        report_.note(
            fmt::format("{} {} stays whole: axis {} of {} devices divides none of its dimensions",
                        path, param.shape.str(), t.axis, mesh_.size(t.axis)));
      }
      return;
    case TransformKind::tensor_parallel:
      cut(rule, path, param, t.dim);
      return;
    case TransformKind::replicate: {
      if (placement.pinned) return;
      if (!placement.spec.replicated()) {
        const int32_t before = report_.rules[static_cast<size_t>(placement.rule)].plan;
        ESPALIER_CHECK(before == report_.rules[static_cast<size_t>(rule)].plan, ErrorKind::user,
                       "plan",
                       "two plans disagree about {}: rule {} cuts it as {}, rule {} keeps "
                       "it whole; drop one of the rules",
                       path, report_.rule_text(placement.rule),
                       placement.spec.str(param.shape.rank()), report_.rule_text(rule));
        return;
      }
      placement.pinned = true;
      placement.rule = rule;
      return;
    }
    case TransformKind::freeze:
      param.trainable = false;
      return;
    case TransformKind::with_dtype:
      if (is_float(param.dtype)) param.dtype = t.dtype;
      return;
    case TransformKind::column_parallel:
    case TransformKind::row_parallel:
    case TransformKind::function:
      break;
  }
  ESPALIER_ASSERT(takes_leaves(t.kind));
}

void PlanRun::apply_parallel(int32_t rule, std::string_view path, ModuleRef module) {
  const shard::Transform& t = data(rule);
  const bool column = t.kind == TransformKind::column_parallel;
  const std::span<const ParallelDims> dims = module.parallel();
  ESPALIER_CHECK(!dims.empty(), ErrorKind::user, "plan",
                 "{} takes a Linear, an Embedding or a layer that lists its `parallel` dimensions; "
                 "{} is a {}",
                 t.str(), path, module.type_name());
  scratch_ = path;
  const size_t prefix = path.size() + 1;
  module.for_each_param(scratch_, [&](std::string_view at, Param& param) {
    const std::string_view name = at.substr(prefix);
    for (const ParallelDims& d : dims) {
      const int32_t dim = column ? d.column : d.row;
      if (d.param == name && dim >= 0) cut(rule, at, param, dim);
    }
  });
}

bool PlanRun::stays_whole(int32_t rule, std::string_view path, Param& param) const {
  shard::Placement& placement = param.placement;
  if (!placement.pinned) return false;
  const RuleReport& pin = report_.rules[static_cast<size_t>(placement.rule)];
  ESPALIER_CHECK(pin.plan == report_.rules[static_cast<size_t>(rule)].plan, ErrorKind::user, "plan",
                 "two plans disagree about {}: rule {} keeps it whole, rule {} cuts it; drop one "
                 "of the rules",
                 path, report_.rule_text(placement.rule), report_.rule_text(rule));
  if (placement.rule < rule) return true;
  placement.pinned = false;
  return false;
}

void PlanRun::cut(int32_t rule, std::string_view path, Param& param, int64_t dim) {
  if (stays_whole(rule, path, param)) return;
  shard::Placement& placement = param.placement;
  const std::string& axis = data(rule).axis;
  const int64_t before = placement.spec.dim_of(axis);
  if (before >= 0 && before != dim) {
    const auto plan_at = [&](int32_t r) { return report_.rules[static_cast<size_t>(r)].plan; };
    fail(ErrorKind::user, "plan",
         "two {} disagree about {} {}: rule {} cuts dimension {} along {}, rule {} has cut "
         "dimension {}; drop one of the rules",
         plan_at(placement.rule) == plan_at(rule) ? "rules" : "plans", path, param.shape.str(),
         report_.rule_text(rule), dim, axis, report_.rule_text(placement.rule), before);
  }
  shard::place(placement.spec, param.shape, dim, axis, mesh_, data(rule).stacked);
  placement.rule = rule;
}

void PlanRun::finish(ModuleRef root) const {
  for (size_t i = 0; i < plan_.rules().size(); ++i) {
    const PlanRule& rule = plan_.rules()[i];
    const int32_t index = first_rule_ + static_cast<int32_t>(i);
    if (rule.optional || report_.rules[static_cast<size_t>(index)].matches > 0) continue;
    const bool modules_only = !takes_leaves(rule.transform.data.kind);
    fail(ErrorKind::user, "plan", "rule {} matches no {}{}", report_.rule_text(index),
         modules_only ? "module" : "module or parameter",
         rule.glob.nearest_hint(modules_only ? module_paths(root) : all_paths(root)));
  }
}

void TiedLeaves::find_owner(std::string_view path, Param& param) {
  for (Second& second : second_) {
    if (second.param->tied_to == path) second.owner = &param;
  }
}

void TiedLeaves::settle(const shard::Mesh& mesh, const PlanReport& report) {
  for (Second& second : second_) {
    Param& other = *second.param;
    ESPALIER_CHECK(second.owner != nullptr, ErrorKind::user, "plan",
                   "{} is tied to {}, where no parameter is", second.path, other.tied_to);
    Param& owner = *second.owner;
    for (const shard::PartitionSpec::Cut& cut : other.placement.spec.cuts()) {
      const int64_t dim = owner.placement.spec.dim_of(cut.axis);
      if (dim == cut.dim) continue;
      ESPALIER_CHECK(dim < 0, ErrorKind::user, "plan",
                     "{} and {} are one parameter {}: rule {} cuts dimension {} along {}, rule {} "
                     "dimension {}",
                     other.tied_to, second.path, owner.shape.str(),
                     report.rule_text(owner.placement.rule), dim, cut.axis,
                     report.rule_text(other.placement.rule), cut.dim);
      ESPALIER_CONTEXT("{}, rule {}", second.path, report.rule_text(other.placement.rule));
      shard::place(owner.placement.spec, owner.shape, cut.dim, cut.axis, mesh, cut.groups);
      owner.placement.rule = other.placement.rule;
    }
    owner.trainable = owner.trainable && other.trainable;
    if (owner.dtype == second.dtype) owner.dtype = other.dtype;
    ESPALIER_CHECK(owner.dtype == other.dtype || other.dtype == second.dtype, ErrorKind::user,
                   "plan", "{} and {} are one parameter: it cannot be both {} and {}",
                   other.tied_to, second.path, espalier::name(owner.dtype),
                   espalier::name(other.dtype));
    other.placement = owner.placement;
  }
  // After all of them, so that a leaf with several second paths ends the same everywhere.
  for (Second& second : second_) {
    second.param->placement = second.owner->placement;
    second.param->trainable = second.owner->trainable;
    second.param->dtype = second.owner->dtype;
  }
}

}  // namespace espalier::nn::detail
