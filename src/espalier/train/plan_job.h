// SPDX-License-Identifier: Apache-2.0
// What a shard plan does to a model, answered without allocating a tensor: places of all
// parameters, bytes of a device, collectives and a predicted time of a step.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "espalier/models/bert.h"
#include "espalier/nn/shard_plan.h"
#include "espalier/shard/cost.h"
#include "espalier/shard/transform.h"

namespace espalier::train {

struct PlanJobOptions {
  std::string model = "bert-base";  // a name, or a config.json
  shard::Mesh mesh;
  std::vector<shard::PlanText> plans;
  shard::Device device;
  int64_t batch = 64;  // samples of all devices together
  int64_t seq = 0;     // positions of a sample; 0: as many as the model has, 512 at most
  double labelled = 0.15;
  int64_t moments = 2;
  DType dtype = DType::bf16;
};

struct PlanAnswer {
  std::string model;
  shard::Mesh mesh;
  shard::Device device;
  int64_t batch = 0, seq = 0;
  DType dtype = DType::bf16;
  std::vector<nn::ParamPlacement> params;
  nn::PlanReport report;
  shard::Cost cost;
};

/// Axes that cut the work of a sample, because a rule cuts columns, rows or a named dimension along
/// them; the other axes of a mesh deal out samples.
std::vector<std::string> model_axes(const std::vector<shard::PlanText>& plans);

/// A BERT by name (models::named_bert), or of a config.json or its folder. Throws `user` with the
/// nearest name.
models::BertConfig bert_config_of(const std::string& model);

/// Throws `user` for an unknown model (naming the nearest) and what apply_plans and estimate throw.
PlanAnswer plan_model(const PlanJobOptions& options);

/// One mesh of a sweep: what it costs, or why it cannot be.
struct SweepRow {
  shard::Mesh mesh;
  shard::Cost cost;
  std::string error;
};
/// All meshes of `devices` devices over the axes of the plans (`data` and `model` where there are
/// none): those that fit the memory first, then by predicted time; what cannot be comes last.
std::vector<SweepRow> sweep(const PlanJobOptions& options, int64_t devices);

/// For people. Equal rows of successive list items are one row unless `all` is set.
std::string plan_text(const PlanAnswer& answer, bool all);
std::string sweep_text(const std::vector<SweepRow>& rows, const PlanJobOptions& options);
/// One JSON object.
std::string plan_json(const PlanAnswer& answer);
std::string sweep_json(const std::vector<SweepRow>& rows);
/// A page with a picture of the placement, readable without a network.
std::string plan_html(const PlanAnswer& answer);

/// Parameters that differ by list index only.
struct PlacementGroup {
  std::string path;  // with "[0-99]" for the indices
  int64_t count = 0;
  const nn::ParamPlacement* first = nullptr;
};
std::vector<PlacementGroup> group_placements(const std::vector<nn::ParamPlacement>& params);

/// Makes the shards of one rank and writes them, one tensor at a time in memory.
struct SaveRankResult {
  int64_t tensors = 0;
  double values = 0.0;  // drawn or constant, moments not counted
  double bytes = 0.0;
  double seconds = 0.0;
};
SaveRankResult save_rank(const PlanJobOptions& options, int64_t rank, uint64_t seed,
                         const std::string& path);

}  // namespace espalier::train
