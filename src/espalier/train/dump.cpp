// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/dump.h"

#include <algorithm>

#include "espalier/base/error.h"
#include "espalier/base/text.h"
#include "espalier/passes/pass.h"
#include "espalier/train/byte_lm_steps.h"

namespace espalier::train {
namespace {

constexpr std::string_view kForward = "forward-";

}  // namespace

std::vector<std::string> dump_stages() {
  std::vector<std::string> stages{"traced"};
  const auto add = [&](std::string stage) {
    if (std::find(stages.begin(), stages.end(), stage) == stages.end()) {
      stages.push_back(std::move(stage));
    }
  };
  for (const passes::Pass& pass : passes::canonical_passes()) {
    add(std::string(kForward) + std::string(pass.name));
  }
  add("grad");
  for (const passes::Pass& pass : passes::step_passes()) add(std::string(pass.name));
  add("fused");
  add("program");
  add("partition");
  return stages;
}

std::string dump_byte_lm(const ByteLmOptions& options, std::string_view stage) {
  const std::vector<std::string> stages = dump_stages();
  ESPALIER_CHECK(std::find(stages.begin(), stages.end(), stage) != stages.end(), ErrorKind::user,
                 "dump", "no stage \"{}\"{}; all: {}", stage, nearest_hint(stage, stages),
                 fmt::join(stages, ", "));
  if (stage == "traced") return ir::print(byte_lm_traced(options));
  if (stage.starts_with(kForward)) {
    const std::string_view wanted = stage.substr(kForward.size());
    std::string text;
    passes::run_passes(passes::canonical_passes(), byte_lm_traced(options),
                       {.compute_dtype = options.compile.compute_dtype,
                        .fuse = options.compile.fuse,
                        .flash = options.compile.flash,
                        .remat = options.compile.remat,
                        .disabled = options.compile.disabled_passes},
                       nullptr, [&](std::string_view pass, const ir::Graph& graph) {
                         if (pass == wanted) text = ir::print(graph);
                       });
    return text;
  }
  const Step step = byte_lm_train_step(options);
  return dump_stage(step.graph(), options.compile, stage);
}

}  // namespace espalier::train
