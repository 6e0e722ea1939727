// SPDX-License-Identifier: Apache-2.0
// One shard plan on its way over a tree.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "espalier/nn/shard_plan.h"

namespace espalier::nn::detail {

/// One plan on its way over a tree.
class PlanRun {
 public:
  PlanRun(const shard::Mesh& mesh, const Plan& plan, int32_t index, PlanReport& report);

  void leaf(std::string_view path, Param& param);
  void module(std::string_view path, ModuleRef module);
  /// Throws `user` for a rule that matched nothing in the tree and should have.
  void finish(ModuleRef root) const;

 private:
  int32_t take(std::string_view path, bool is_leaf);
  void apply(int32_t rule, std::string_view path, Param& param);
  void apply_parallel(int32_t rule, std::string_view path, ModuleRef module);
  /// Whether an earlier decision keeps the parameter whole.
  bool stays_whole(int32_t rule, std::string_view path, Param& param) const;
  void cut(int32_t rule, std::string_view path, Param& param, int64_t dim);

  const shard::Transform& data(int32_t rule) const {
    return plan_.rules()[static_cast<size_t>(rule - first_rule_)].transform.data;
  }

  const shard::Mesh& mesh_;
  const Plan& plan_;
  int32_t first_rule_;  // index of the plan's first rule in the report
  PlanReport& report_;
  std::string scratch_;
};

/// Makes all paths of tied leaves agree after a plan. Throws `user` where they cannot.
class TiedLeaves {
 public:
  /// For each leaf, before a plan changes it.
  void note(std::string_view path, Param& param) {
    if (!param.tied_to.empty()) second_.push_back({std::string(path), &param, param.dtype});
  }
  bool empty() const { return second_.empty(); }
  /// For each leaf, afterwards.
  void find_owner(std::string_view path, Param& param);
  void settle(const shard::Mesh& mesh, const PlanReport& report);

 private:
  struct Second {
    std::string path;
    Param* param;
    DType dtype;  // before the plan
    Param* owner = nullptr;
  };
  std::vector<Second> second_;
};

}  // namespace espalier::nn::detail
