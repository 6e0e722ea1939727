// SPDX-License-Identifier: Apache-2.0
// A model and its optimizer state, born as shards: each parameter and moment is made directly as
// the piece that one device of a mesh holds. Initial values are a function of (seed, path, index in
// the whole tensor), so every mesh has the same model, and any process can make any rank's shards.
//
//   auto state = make_module_opt(Model(), adamw(), mesh, {tensor_parallel, fully_sharded}, seed,
//                                {.rank = 5});
//   save_shards("rank-00005.safetensors", state);
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "espalier/nn/shard_plan.h"
#include "espalier/train/optimizer.h"

namespace espalier::train {

/// A moment, named as in a step's graph: "adam.m.PATH".
struct MomentShard {
  std::string name;
  std::string path;  // of its parameter
  HostTensor data;   // f32, zero
};

template <typename M>
struct ModuleOpt {
  M model;  // each leaf's `data` is its shard
  nn::PlanReport report;
  shard::Mesh mesh;
  int64_t rank = 0;
  uint64_t seed = 0;
  std::vector<MomentShard> moments;  // of trainable parameters
};

struct ModuleOptOptions {
  int64_t rank = 0;
};

/// What a shard file says about one tensor.
struct ShardSpec {
  std::string name;    // "param.PATH" or "adam.m.PATH"
  std::string path;    // of the parameter
  Shape whole, local;  // of the parameter, of the shard
  shard::Region region;
  shard::PartitionSpec spec;
  DType dtype = DType::f32;
  nn::Init init;  // zeros for moments
};

/// The tensors of one rank, parameters first, moments of trainable parameters after them.
std::vector<ShardSpec> shard_specs(const std::vector<std::pair<std::string, nn::Param>>& params,
                                   const Optimizer& optimizer, const shard::Mesh& mesh,
                                   int64_t rank);

/// Makes the values of one shard.
HostTensor make_shard(const ShardSpec& spec, uint64_t seed);

/// Writes shards to a safetensors file that appears whole or not at all; one tensor at a time is in
/// memory. Metadata: "mesh", "rank", "seed", and for each tensor "shard.NAME" with its whole shape,
/// partition spec and, seen as "view" (shard::Region), its first element.
void save_shards(const std::filesystem::path& path, const std::vector<ShardSpec>& specs,
                 const shard::Mesh& mesh, int64_t rank, uint64_t seed);

/// Leaves of a tree with their paths, without values.
std::vector<std::pair<std::string, nn::Param>> abstract_params(
    const std::vector<nn::LeafEntry>& leaves);
template <nn::IsModule M>
std::vector<std::pair<std::string, nn::Param>> abstract_params(const M& model) {
  return abstract_params(nn::leaves_of(model));
}

/// Applies the plans, then makes every parameter and moment of one rank. Throws what apply_plans
/// throws, and `user` for a rank outside the mesh. On one device this is the whole state, with the
/// values that Step::initialize gives under the same seed.
template <typename M>
ModuleOpt<M> make_module_opt(M model, const Optimizer& optimizer, const shard::Mesh& mesh,
                             const std::vector<nn::Plan>& plans, uint64_t key,
                             const ModuleOptOptions& options = {}) {
  mesh.check_rank(options.rank);
  nn::Placed<M> placed = nn::apply_plans(std::move(model), mesh, plans);
  ModuleOpt<M> made{std::move(placed.model), std::move(placed.report), mesh, options.rank, key, {}};
  std::vector<nn::Param*> leaves;
  nn::for_each_param(made.model,
                     [&](std::string_view, nn::Param& leaf) { leaves.push_back(&leaf); });
  const std::vector<ShardSpec> specs =
      shard_specs(abstract_params(made.model), optimizer, mesh, options.rank);
  for (size_t i = 0; i < specs.size(); ++i) {
    HostTensor shard = make_shard(specs[i], key);
    if (i < leaves.size()) {
      leaves[i]->data = std::move(shard);
    } else {
      made.moments.push_back({specs[i].name, specs[i].path, std::move(shard)});
    }
  }
  return made;
}

/// Writes what make_module_opt made.
template <typename M>
void save_shards(const std::filesystem::path& path, const ModuleOpt<M>& state,
                 const Optimizer& optimizer) {
  save_shards(path, shard_specs(abstract_params(state.model), optimizer, state.mesh, state.rank),
              state.mesh, state.rank, state.seed);
}

}  // namespace espalier::train
