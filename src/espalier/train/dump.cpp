// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/dump.h"

#include <algorithm>
#include <functional>

#include "espalier/base/error.h"
#include "espalier/base/text.h"
#include "espalier/models/bert_forward.h"
#include "espalier/passes/pass.h"
#include "espalier/train/byte_lm_steps.h"
#include "espalier/train/plan_job.h"

namespace espalier::train {
namespace {

constexpr std::string_view kForward = "forward-";

/// `traced` and `step` make the graphs that a stage starts from; only what is needed is made.
std::string dump(const std::function<ir::Graph()>& traced, const std::function<ir::Graph()>& step,
                 const CompileOptions& compile, std::string_view stage) {
  const std::vector<std::string> stages = dump_stages();
  ESPALIER_CHECK(std::find(stages.begin(), stages.end(), stage) != stages.end(), ErrorKind::user,
                 "dump", "no stage \"{}\"{}; all: {}", stage, nearest_hint(stage, stages),
                 fmt::join(stages, ", "));
  if (stage == "traced") return ir::print(traced());
  if (!stage.starts_with(kForward)) return dump_stage(step(), compile, stage);
  const std::string_view wanted = stage.substr(kForward.size());
  std::string text;
  passes::run_passes(passes::canonical_passes(), traced(),
                     {.compute_dtype = compile.compute_dtype,
                      .fuse = compile.fuse,
                      .flash = compile.flash,
                      .remat = compile.remat,
                      .disabled = compile.disabled_passes},
                     nullptr, [&](std::string_view pass, const ir::Graph& graph) {
                       if (pass == wanted) text = ir::print(graph);
                     });
  return text;
}

auto bert_loss_of(const BertDumpOptions& o) {
  ESPALIER_CHECK(o.batch > 0 && o.seq > 0 && o.labels > 0, ErrorKind::user, "dump",
                 "--batch {}, --seq {} and --labels {} must be positive", o.batch, o.seq, o.labels);
  return [&o](const models::BertForMaskedLm& model, const Trace& trace) -> Loss {
    const Shape shape{o.batch, o.seq};
    const models::BertInputs inputs{.input_ids = trace.batch("input_ids", DType::i32, shape),
                                    .position_ids = trace.batch("position_ids", DType::i32, shape),
                                    .segments = trace.batch("segments", DType::i32, shape)};
    const models::BertLabels labels{.rows = trace.batch("label_rows", DType::i32, {o.labels}),
                                    .labels = trace.batch("labels", DType::i32, {o.labels})};
    const Tensor hidden = bert_encode(model, inputs, trace.context);
    const models::BertLoss sums = bert_loss(model, hidden, labels);
    return sums.sum / sums.count;
  };
}

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
  return dump([&] { return byte_lm_traced(options); },
              [&] { return byte_lm_train_step(options).graph(); }, options.compile, stage);
}

Step bert_dump_step(const BertDumpOptions& options) {
  return make_train_step(models::BertForMaskedLm(bert_config_of(options.model)),
                         bert_loss_of(options), chain(clip_by_global_norm(1.0), adamw()),
                         {.compile = options.compile});
}

std::string dump_bert(const BertDumpOptions& options, std::string_view stage) {
  const models::BertConfig config = bert_config_of(options.model);
  return dump([&] { return trace_loss(models::BertForMaskedLm(config), bert_loss_of(options)); },
              [&] { return bert_dump_step(options).graph(); }, options.compile, stage);
}

}  // namespace espalier::train
