// SPDX-License-Identifier: Apache-2.0
// A training step over a mesh: where its inputs lie, given the places of its parameters.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "espalier/nn/param.h"
#include "espalier/passes/partition.h"
#include "espalier/shard/transform.h"
#include "espalier/train/dump.h"

namespace espalier::train {

/// Options to partition a step's graph: parameters lie as their placements say (`params` is what
/// abstract_params gives of a placed tree), moments as their parameters, and dimension 0 of every
/// batch input is dealt out over `sample_axes`. Throws `user` where these do not divide the batch.
passes::PartitionOptions partition_options(
    const ir::Graph& graph, const std::vector<std::pair<std::string, nn::Param>>& params,
    const shard::Mesh& mesh, const std::vector<std::string>& sample_axes);

/// What `espalier dump --stage partition` needs beside a model.
struct PartitionChoice {
  shard::Mesh mesh;
  std::vector<shard::PlanText> plans;
};

/// The step of one device of the mesh as text that parses back. Comments before it list what is
/// communicated, and where activations are put together. Axes that no rule cuts work along
/// (model_axes in plan_job.h) deal out samples.
std::string dump_partitioned_byte_lm(const ByteLmOptions& options, const PartitionChoice& choice);

/// The same of BERT's step; each device has the labels of its samples.
std::string dump_partitioned_bert(const BertDumpOptions& options, const PartitionChoice& choice);

}  // namespace espalier::train
