// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "espalier/backend/cpu/exec/cpu_executable.h"
#include "espalier/backend/executable.h"
#include "espalier/base/error.h"
#include "espalier/base/text.h"
#include "espalier/passes/pass.h"
#include "espalier/plan/program.h"

namespace espalier {

std::string dump_stage(const ir::Graph& graph, const CompileOptions& options,
                       std::string_view stage) {
  std::vector<std::string> names{"grad", "fused", "program"};
  for (const passes::Pass& pass : passes::step_passes()) names.emplace_back(pass.name);
  ESPALIER_CHECK(std::find(names.begin(), names.end(), stage) != names.end(), ErrorKind::user,
                 "dump", "no stage \"{}\"{}", stage, nearest_hint(stage, names));
  if (stage == "grad") return ir::print(graph);
  std::string text;
  const ir::Graph fused =
      passes::run_passes(passes::step_passes(), graph, cpu::pass_options(options), nullptr,
                         [&](std::string_view pass, const ir::Graph& result) {
                           // A pass that runs twice is shown as it left the graph the last time.
                           if (pass == stage) text = ir::print(result);
                         });
  if (stage == "fused") return ir::print(fused);
  if (stage == "program") {
    plan::Program program = plan::build_program(fused);
    plan::plan_memory(program);
    return program.str();
  }
  return text;
}

}  // namespace espalier
