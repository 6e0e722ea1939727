// SPDX-License-Identifier: Apache-2.0
// Small models' training steps, run as one device and as every device of a mesh, in double.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "espalier/base/rng.h"
#include "espalier/interp/mesh.h"
#include "espalier/models/bert_forward.h"
#include "espalier/models/byte_lm.h"
#include "espalier/train/module_opt.h"
#include "espalier/train/partition_step.h"
#include "espalier/train/plan_job.h"
#include "espalier/train/step.h"
#include "tests/support/compare.h"

namespace espalier::testing {

/// A model's step and how it is cut.
struct MeshCase {
  ir::Graph graph;
  passes::PartitionOptions options;
  int64_t vocab = 0;
  std::vector<std::pair<std::string, nn::Param>> params;
  /// With accumulation `graph` runs for each part of a batch, then this runs.
  int64_t parts = 1;
  std::optional<ir::Graph> update = {};
  passes::PartitionOptions update_options = {};
};

struct CutPlan {
  std::string mesh;
  std::vector<shard::PlanText> plans = {};
};

inline std::vector<shard::PlanText> rules(const std::vector<std::string>& texts) {
  shard::PlanText plan{"test", {}};
  for (const std::string& text : texts) plan.rules.push_back(shard::RuleText::parse(text));
  return {plan};
}
inline std::vector<shard::PlanText> operator+(std::vector<shard::PlanText> a,
                                              const std::vector<shard::PlanText>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

inline train::Optimizer clipped_adamw() {
  return train::chain(
      train::clip_by_global_norm(0.5),
      train::adamw({.learning_rate = train::cosine_schedule({.peak = 1e-2, .total = 10}),
                    .weight_decay = 0.1}));
}

template <typename M>
MeshCase make_case(const M& model, const train::Step& step, const CutPlan& cut) {
  MeshCase c{step.graph(), {}, 0, {}, step.parts()};
  const shard::Mesh mesh = shard::Mesh::parse(cut.mesh);
  std::vector<std::string> sample_axes;
  const std::vector<std::string> work = train::model_axes(cut.plans);
  for (const shard::MeshAxis& axis : mesh.axes()) {
    const bool cuts_work = std::count(work.begin(), work.end(), axis.name) > 0;
    if (!cuts_work && axis.name != "model") sample_axes.push_back(axis.name);
  }
  c.params = train::abstract_params(nn::apply_plans(model, mesh, nn::plans_of(cut.plans)).model);
  c.options = train::partition_options(c.graph, c.params, mesh, sample_axes);
  if (step.update() != nullptr) {
    c.update = *step.update();
    c.update_options = train::partition_options(*c.update, c.params, mesh, sample_axes);
  }
  return c;
}

inline models::BertConfig small_bert() {
  models::BertConfig c;
  c.vocab_size = 32;
  c.hidden_size = 16;
  c.num_hidden_layers = 2;
  c.num_attention_heads = 4;
  c.intermediate_size = 32;
  c.max_position_embeddings = 8;
  return c;
}
inline constexpr int64_t kBatch = 8, kSeq = 6, kLabels = 16;

/// All inputs that a BERT can have, dropout on.
inline MeshCase bert_case(const CutPlan& cut, const train::StepOptions& step_options = {
                                                  .grad_norm = true, .gradients = true}) {
  const models::BertForMaskedLm model(small_bert());
  const int64_t parts = step_options.accumulate;
  const auto loss = [=](const models::BertForMaskedLm& m,
                        const train::Trace& trace) -> train::Loss {
    const Shape shape{kBatch / parts, kSeq}, room{kLabels / parts};
    const models::BertInputs inputs{
        .input_ids = trace.batch("input_ids", DType::i32, shape),
        .token_type_ids = trace.batch("token_type_ids", DType::i32, shape),
        .attention_mask = trace.batch("attention_mask", DType::boolean, shape),
        .segments = trace.batch("segments", DType::i32, shape)};
    const models::BertLabels labels{.rows = trace.batch("label_rows", DType::i32, room),
                                    .labels = trace.batch("labels", DType::i32, room)};
    const models::BertLoss sums =
        models::bert_loss(m, models::bert_encode(m, inputs, trace.context), labels);
    if (parts > 1) return train::Loss::mean_over(sums.sum, sums.count);
    return {sums.sum / sums.count, {{"nats", sums.sum, sums.count}}};
  };
  MeshCase c =
      make_case(model, train::make_train_step(model, loss, clipped_adamw(), step_options), cut);
  c.options.local_indices = {"batch.label_rows"};
  c.vocab = model.config.vocab_size;
  return c;
}

inline MeshCase byte_lm_case(const CutPlan& cut, models::ByteLmVariant variant, bool flash = true) {
  const models::ByteLmConfig config{
      .vocab = 16, .width = 16, .heads = 4, .ffn = 32, .layers = 2, .seq_len = kSeq};
  const models::ByteLm model(config);
  const auto loss = [&](const models::ByteLm& m, const train::Trace& trace) -> train::Loss {
    const Tensor bytes = trace.batch("bytes", DType::u8, {kBatch, kSeq});
    return models::byte_lm_loss(variant, models::byte_lm_logits(m, variant, bytes, trace.context),
                                bytes);
  };
  train::StepOptions options{.grad_norm = true, .gradients = true};
  options.compile.flash = flash;
  MeshCase c = make_case(model, train::make_train_step(model, loss, clipped_adamw(), options), cut);
  c.vocab = config.vocab;
  return c;
}

using Values = std::map<std::string, interp::DoubleTensor>;  // whole, by name

/// Uniform in [0, 1), a function of the name and the index.
inline double draw(const std::string& name, int64_t step, size_t index) {
  uint64_t id = 0;
  for (char ch : name) id = mix64(id ^ static_cast<uint64_t>(ch));
  return rng_uniform(rng_key(11, static_cast<uint64_t>(step), id), index);
}

/// A batch, or the state at the start.
inline interp::DoubleTensor value_of(const MeshCase& c, const std::string& name,
                                     const ir::TensorType& type, int64_t step) {
  interp::DoubleTensor t{type, std::vector<double>(static_cast<size_t>(type.shape.numel()))};
  for (size_t i = 0; i < t.data.size(); ++i) {
    const double u = draw(name, step, i);
    double& x = t.data[i];
    if (name == "seed") {
      x = 1234;
    } else if (name.starts_with("param.")) {
      x = (u - 0.5) * 0.4 + (name.find("orm") != std::string::npos ? 1.0 : 0.0);
    } else if (name == "batch.segments") {
      x = i % kSeq < 4 ? 0 : 1;
    } else if (name == "batch.token_type_ids") {
      x = std::floor(2.0 * u);
    } else if (name == "batch.attention_mask") {
      x = i % kSeq == 1 ? 0 : 1;
    } else if (name == "batch.label_rows") {  // two of each sample, in order
      x = static_cast<double>(i / 2 * kSeq + i % 2 * 3) + std::floor(3.0 * u);
    } else if (name == "batch.labels" && i % 7 == 3) {
      x = -100;  // unused
    } else if (name.starts_with("batch.")) {
      x = std::floor(static_cast<double>(c.vocab) * u);
    }
  }
  return t;
}

/// What runs one after the other in a step: the graph once, or for every part, and the update.
struct Phase {
  const ir::Graph* graph;
  const passes::PartitionOptions* options;
  int64_t part;
};
inline std::vector<Phase> phases_of(const MeshCase& c) {
  std::vector<Phase> phases;
  for (int64_t part = 0; part < c.parts; ++part) phases.push_back({&c.graph, &c.options, part});
  if (c.update) phases.push_back({&*c.update, &c.update_options, 0});
  return phases;
}

/// What an input holds that no step before has made.
inline interp::DoubleTensor fresh_value(const MeshCase& c, const Phase& phase, int32_t id,
                                        int64_t step) {
  const std::string& name = phase.graph->node(id).attrs.text(ir::Attr::name);
  interp::DoubleTensor value =
      value_of(c, name, phase.graph->node(id).types[0], step * c.parts + phase.part);
  if (name == "part") value.data[0] = static_cast<double>(phase.part);
  return value;
}

/// Outputs of each step of one device; state goes from one to the next.
inline std::vector<Values> run_whole(const MeshCase& c, int steps) {
  std::vector<Values> runs;
  Values state;
  for (int s = 0; s < steps; ++s) {
    Values& run = runs.emplace_back();
    for (const Phase& phase : phases_of(c)) {
      const ir::Graph& graph = *phase.graph;
      std::vector<interp::DoubleTensor> inputs;
      for (int32_t id : graph.inputs()) {
        const auto kept = state.find(graph.node(id).attrs.text(ir::Attr::name));
        inputs.push_back(kept != state.end() ? kept->second : fresh_value(c, phase, id, s));
      }
      const auto outputs = interp::evaluate(graph, inputs);
      for (size_t i = 0; i < outputs.size(); ++i) {
        const ir::Output& output = graph.outputs()[i];
        run[output.name] = outputs[i];
        if (output.alias >= 0) {
          state[graph.node(output.alias).attrs.text(ir::Attr::name)] = outputs[i];
        }
      }
    }
  }
  return runs;
}

/// One phase by all devices of the mesh, over the state (pieces) of each. Copies of one piece must
/// be equal.
inline void run_phase_on_mesh(const MeshCase& c, const Phase& phase,
                              const passes::Partitioned& made, int64_t step,
                              std::vector<Values>& state, Values& run) {
  const shard::Mesh& mesh = c.options.mesh;
  const std::vector<int32_t> ids = made.graph.inputs(), whole_ids = phase.graph->inputs();
  interp::OnMesh inputs(state.size());
  for (size_t r = 0; r < state.size(); ++r) {
    for (size_t i = 0; i < ids.size(); ++i) {
      const auto kept = state[r].find(made.graph.node(ids[i]).attrs.text(ir::Attr::name));
      inputs[r].push_back(kept != state[r].end()
                              ? kept->second
                              : interp::take_piece(fresh_value(c, phase, whole_ids[i], step),
                                                   made.inputs[i], mesh, static_cast<int64_t>(r)));
    }
  }
  const interp::OnMesh outputs = interp::evaluate_on_mesh(made.graph, mesh, inputs);
  for (size_t i = 0; i < made.graph.outputs().size(); ++i) {
    const ir::Output& output = made.graph.outputs()[i];
    const ir::TensorType& type = phase.graph->type(phase.graph->outputs()[i].value);
    interp::DoubleTensor whole{
        type, std::vector<double>(static_cast<size_t>(type.shape.numel()), HUGE_VAL)};
    for (size_t r = 0; r < state.size(); ++r) {
      const auto rank = static_cast<int64_t>(r);
      interp::put_piece(outputs[r][i], made.outputs[i], mesh, rank, whole);
      if (output.alias < 0) continue;
      state[r][made.graph.node(output.alias).attrs.text(ir::Attr::name)] = outputs[r][i];
    }
    for (size_t r = 0; r < state.size(); ++r) {
      const auto piece = interp::take_piece(whole, made.outputs[i], mesh, static_cast<int64_t>(r));
      EXPECT_TRUE(same(outputs[r][i].data, piece.data)) << output.name << " on rank " << r;
    }
    run[output.name] = std::move(whole);
  }
}

/// The same by all devices, which exchange nothing but what the graphs say. `made`: of each phase.
inline std::vector<Values> run_mesh(const MeshCase& c, const std::vector<passes::Partitioned>& made,
                                    int steps) {
  const std::vector<Phase> phases = phases_of(c);
  std::vector<Values> runs;
  std::vector<Values> state(static_cast<size_t>(c.options.mesh.devices()));
  for (int s = 0; s < steps; ++s) {
    Values& run = runs.emplace_back();
    for (size_t p = 0; p < phases.size(); ++p) {
      run_phase_on_mesh(c, phases[p], made[p], s, state, run);
    }
  }
  return runs;
}

/// Every output of `steps` steps agrees.
inline passes::Partitioned expect_equal_steps(const MeshCase& c, int steps = 3) {
  std::vector<passes::Partitioned> made;
  for (const Phase& phase : phases_of(c)) {
    made.push_back(passes::partition(*phase.graph, *phase.options));
  }
  const std::vector<Values> want = run_whole(c, steps);
  const std::vector<Values> got = run_mesh(c, made, steps);
  for (size_t s = 0; s < want.size(); ++s) {
    for (const auto& [name, value] : want[s]) {
      EXPECT_TRUE(close(got[s].at(name).data, value.data, 1e-10, 1e-12))
          << name << " of step " << s << " on " << c.options.mesh.str();
    }
  }
  return std::move(made.front());
}

}  // namespace espalier::testing
