// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <chrono>

#include "espalier/base/error.h"
#include "espalier/base/text.h"
#include "espalier/passes/pass.h"

namespace espalier::passes {

const std::vector<Pass>& canonical_passes() {
  static const std::vector<Pass> passes{
      {"fold", fold, false},          {"cse", cse, false},   {"attention", attention, false},
      {"decompose", decompose, true}, {"fold", fold, false}, {"cse", cse, false},
      {"order", order, false},
  };
  return passes;
}

const std::vector<Pass>& step_passes() {
  static const std::vector<Pass> passes{
      {"decompose", decompose, true},
      {"erase_stops", erase_stops, true},
      {"fold", fold, false},
      {"cse", cse, false},
      {"dce", dce, false},
      {"remat", remat, false},
      {"precision", precision, false},
      {"fold", fold, false},
      {"cse", cse, false},
      {"dce", dce, false},
      {"prepack", prepack, false},
      {"fuse", fuse, true},
  };
  return passes;
}

namespace {
void check_disabled(const PassOptions& options) {
  std::vector<std::string> names;
  for (const auto* list : {&canonical_passes(), &step_passes()}) {
    for (const Pass& pass : *list) {
      if (!pass.required) names.emplace_back(pass.name);
    }
  }
  for (const std::string& name : options.disabled) {
    ESPALIER_CHECK(std::find(names.begin(), names.end(), name) != names.end(), ErrorKind::user,
                   "passes", "no pass \"{}\" that can be switched off; nearest: {}", name,
                   nearest(name, names));
  }
}
}  // namespace

ir::Graph run_passes(const std::vector<Pass>& passes, const ir::Graph& graph,
                     const PassOptions& options, std::vector<PassTiming>* timings,
                     const PassObserver& observer) {
  check_disabled(options);
  ir::Graph current = graph;
  for (const Pass& pass : passes) {
    const bool disabled = std::find(options.disabled.begin(), options.disabled.end(), pass.name) !=
                          options.disabled.end();
    if (disabled && !pass.required) continue;
    const auto start = std::chrono::steady_clock::now();
    const size_t before = current.nodes().size();
    {
      ESPALIER_CONTEXT("pass {}", pass.name);
      current = pass.run(current, options);
      ir::verify(current);
    }
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
    if (timings != nullptr) {
      timings->push_back({std::string(pass.name), spent.count(), before, current.nodes().size()});
    }
    if (observer) observer(pass.name, current);
  }
  return current;
}

}  // namespace espalier::passes
