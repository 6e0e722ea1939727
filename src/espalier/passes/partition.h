// SPDX-License-Identifier: Apache-2.0
// partition: a graph of one device --> the graph that every device of a mesh runs on its own pieces
// (GSPMD: Xu et al., arXiv 2105.04663).
//
//   y = dot(x [8,4], w [4,6])      x cut (data,-), w cut (-,model), data=2, model=3
//   --> y = dot(x [4,4], w [4,2])  every device has its own block of y, cut (data,model)
//
// The places of parameters, moments and batch are given; those of all other values follow. The axes
// that cut the batch (sample axes) keep the work where the samples are: parameters are gathered for
// it. Along the other axes the work follows the parameters. Gradients arrive as sums that are still
// to be taken over the sample axes and go to the place of the moments that take them up: as an
// all-reduce where these are whole, as a reduce-scatter where they are cut.
//
//   partition_factors  which dimensions of an op go together, one row an op or family: the table
//   partition_assign   which mesh axes cut which dimensions of one op, from its operands
//   partition_moves    from one place to another: gather, slice, sum
//   partition_emit     the op on pieces
//   partition_values   facts about the values before: classes, wishes
//   partition          the walk over the graph
//   partition_report   what is sent
#pragma once

#include <map>
#include <string>
#include <vector>

#include "espalier/ir/graph.h"
#include "espalier/shard/cost.h"
#include "espalier/shard/spec.h"

namespace espalier::passes {

struct PartitionOptions {
  shard::Mesh mesh;
  /// By name of the graph input. Inputs that are not named are whole on every device.
  std::map<std::string, shard::PartitionSpec> inputs = {};
  /// Inputs with indices into a value that is cut along the same axes as they are, which promise to
  /// name only what lies in the same piece: the labelled rows of a device are rows of its samples.
  std::vector<std::string> local_indices = {};
  /// true: what is gathered for the forward pass is dropped and gathered again for the backward
  /// pass (ZeRO stage 3); false: it is kept.
  bool regather = true;
};

struct Partitioned {
  ir::Graph graph;                            // shapes are those of the pieces
  std::vector<shard::PartitionSpec> inputs;   // of graph.inputs()
  std::vector<shard::PartitionSpec> outputs;  // of graph.outputs(); results that replace an input
                                              // lie as the input does
  /// Where activations are put together because an op cannot work on their pieces.
  std::vector<std::string> notes;
};

/// `graph` is a step before fusion. Composite ops are decomposed first, equal nodes merged. Throws
/// `user` for specs of inputs that do not exist, axes that the mesh does not have and sizes that
/// they do not divide; `unsupported` for ops that later passes make.
Partitioned partition(const ir::Graph& graph, const PartitionOptions& options);

/// Collectives of one kind over one group of axes, of one step and device.
struct Communication {
  shard::CollectiveKind kind;
  std::string axes;  // "data", "data,model"
  std::string what;  // "parameters", "gradients", "activations", "scalars"; for the first and third
                     // with ", forward" or ", backward" (behind the node of the output "loss")
  int64_t count = 0;
  double bytes = 0.0;       // of the whole values
  double sent_bytes = 0.0;  // by rings: see shard/cost.h
};

/// What a partitioned graph communicates, in the order of first use.
std::vector<Communication> communication(const ir::Graph& graph);

}  // namespace espalier::passes
