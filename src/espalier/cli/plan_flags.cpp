// SPDX-License-Identifier: Apache-2.0
#include "espalier/cli/plan_flags.h"

namespace espalier::cli {

void PlanFlags::add_to(Command& app) {
  app.add_option("--mesh", mesh, "axes and sizes: data=8,model=4");
  app.add_option("--rule", rules, "GLOB=TRANSFORM, again for more; the first that matches wins")
      ->allow_extra_args(false);
  app.add_option("--plan", file, "TOML file with [[rule]] or [[plan]]");
  app.add_option("--preset", preset, "bert-tp, fsdp or bert-tp+fsdp");
}

std::vector<shard::PlanText> PlanFlags::plans() const {
  std::vector<shard::PlanText> plans;
  if (!preset.empty()) plans = shard::preset(preset);
  if (!file.empty()) {
    for (shard::PlanText& plan : shard::read_plan_file(file)) plans.push_back(std::move(plan));
  }
  if (rules.empty()) return plans;
  shard::PlanText plan{"--rule", {}};
  for (const std::string& rule : rules) plan.rules.push_back(shard::RuleText::parse(rule));
  plans.push_back(std::move(plan));
  return plans;
}

}  // namespace espalier::cli
