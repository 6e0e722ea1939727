// SPDX-License-Identifier: Apache-2.0
// Shard plans: ordered rules (glob, transform) over the paths of a module tree.
//
//   const shard::Mesh mesh = shard::Mesh::parse("data=2,model=4");
//   Plan plan("tensor parallel");
//   plan.add("*.up", column_parallel("model")).add("*.down", row_parallel("model"));
//   auto [placed, report] = apply_plans(model, mesh, {plan});
//
// Rules see every module below the root, and every parameter where their transform works on single
// parameters (column_parallel, row_parallel and functions take modules only). The first rule that
// matches a path takes it. Where a module and something below it both match, the inner one is
// transformed first and the outer transform sees the result. Several plans are applied one after
// the other.
//
// `replicate` leaves what it finds whole: rules that come later in the same plan pass such
// parameters by, and what an earlier rule cut stays cut.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "espalier/base/glob.h"
#include "espalier/nn/module_ref.h"
#include "espalier/nn/tree.h"
#include "espalier/shard/transform.h"

namespace espalier::nn {

/// A transform: data, or a function that changes a module in place.
struct PlanTransform {
  shard::Transform data;
  std::function<void(ModuleRef module, std::string_view path)> function = {};
};

/// Cuts what a layer makes; for Linear, Embedding and layers that list their `parallel` dimensions.
/// A layer that makes several things at once, `stacked` matrices in one, is cut in each of them.
PlanTransform column_parallel(std::string axis, int64_t stacked = 1);
/// Cuts what a layer takes; the bias of a Linear stays whole.
PlanTransform row_parallel(std::string axis);
/// Cuts each parameter along the largest dimension that the axis divides; parameters of fewer than
/// `min_size` elements stay whole, and so do those without such a dimension, which is reported.
PlanTransform fully_shard(std::string axis, int64_t min_size = 1024);
/// Cuts dimension `dim` of every parameter.
PlanTransform tensor_parallel(std::string axis, int64_t dim);
PlanTransform replicate();
/// No gradient, no optimizer state.
PlanTransform freeze();
/// Changes the type of float parameters.
PlanTransform with_dtype(DType dtype);
/// Any function M -> M. Matching a module of another type is an error.
template <IsModule M, typename Fn>
PlanTransform transform(Fn fn) {
  return {{.kind = shard::TransformKind::function},
          [fn = std::move(fn)](ModuleRef module, std::string_view path) {
            M* same = module.as<M>();
            ESPALIER_CHECK(same != nullptr, ErrorKind::user, "plan",
                           "the rule's function takes a {}; {} is a {}", type_name(typeid(M)), path,
                           module.type_name());
            *same = fn(std::move(*same));
          }};
}

struct PlanRule {
  Glob glob;
  PlanTransform transform;
  bool optional = false;  // may match nothing
};

class Plan {
 public:
  explicit Plan(std::string name = {}) : name_(std::move(name)) {}
  explicit Plan(const shard::PlanText& text);

  Plan& add(std::string glob, PlanTransform transform, bool optional = false);
  const std::string& name() const { return name_; }
  const std::vector<PlanRule>& rules() const { return rules_; }

 private:
  std::string name_;
  std::vector<PlanRule> rules_;
};

std::vector<Plan> plans_of(const std::vector<shard::PlanText>& texts);

/// What became of a rule.
struct RuleReport {
  int32_t plan = 0;
  std::string plan_name;
  std::string glob;
  std::string transform;
  int64_t matches = 0;       // paths that the glob matches
  int64_t hits = 0;          // of them, those that no earlier rule took
  int32_t shadowed_by = -1;  // matches without hits: the rule that took the first of them
};

struct PlanReport {
  std::vector<RuleReport> rules;  // of all plans; Placement::rule is an index into them
  struct Hit {
    std::string path;
    int32_t rule;
  };
  std::vector<Hit> hits;           // in the order of the transforms
  std::vector<std::string> notes;  // parameters that stayed whole because nothing divides them

  /// Adds to the notes what is not there yet.
  void note(std::string text);
  int64_t hit_count() const { return static_cast<int64_t>(hits.size()); }
  std::vector<int32_t> shadowed() const;
  /// Rules that match nothing and may.
  std::vector<int32_t> unmatched() const;
  /// "'*.dense=column_parallel(model)' of plan tp"
  std::string rule_text(int32_t rule) const;
};

/// A parameter with its place.
struct ParamPlacement {
  std::string path;
  std::vector<std::string> tied_paths;  // second paths
  Shape shape;
  DType dtype = DType::f32;
  bool trainable = true;
  shard::PartitionSpec spec;
  Shape local_shape;
  std::vector<int32_t> rules;  // that took it or a module around it, innermost first

  int64_t local_bytes() const { return local_shape.numel() * size_of(dtype); }
};

template <typename M>
struct Placed {
  M model;
  PlanReport report;
};

namespace detail {

PlanReport apply_plans(ModuleRef model, const shard::Mesh& mesh, const std::vector<Plan>& plans);
std::vector<ParamPlacement> explain(ModuleRef model, const PlanReport& report,
                                    const shard::Mesh& mesh);

}  // namespace detail

/// Applies plans one after the other. Throws `user` for a rule that matches nothing (naming the
/// nearest path), an axis that the mesh does not have, sizes that an axis does not divide, and
/// plans that disagree about a parameter.
template <IsModule M>
Placed<M> apply_plans(M model, const shard::Mesh& mesh, const std::vector<Plan>& plans) {
  detail::unshare(model);
  PlanReport report = detail::apply_plans(ModuleRef(model), mesh, plans);
  return {std::move(model), std::move(report)};
}

/// One plan, without its report.
template <IsModule M>
M apply_transforms(M model, const Plan& plan, const shard::Mesh& mesh = {}) {
  return apply_plans(std::move(model), mesh, {plan}).model;
}

/// Path, shape, rules and placement of every parameter.
template <IsModule M>
std::vector<ParamPlacement> explain(const M& model, const PlanReport& report,
                                    const shard::Mesh& mesh) {
  return detail::explain(detail::root_of(model), report, mesh);
}

}  // namespace espalier::nn
