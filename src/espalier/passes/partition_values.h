// SPDX-License-Identifier: Apache-2.0
// What is known about the values of a graph before any of them is placed.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "espalier/passes/partition.h"

namespace espalier::passes::part {

/// What a value is computed from, the strongest that applies.
enum class Source : uint8_t { constants, parameters, samples };

struct ValueFacts {
  std::vector<Source> source;  // of each node
  /// Where the result of a node would best lie, because parameters and moments that it updates lie
  /// so: through elementwise ops, backwards from the outputs that replace inputs.
  std::vector<std::optional<shard::PartitionSpec>> wish;
  /// Indices that stay inside their piece; see PartitionOptions::local_indices.
  std::vector<bool> local_index;
  std::vector<int32_t> uses;
  int32_t first_backward = 0;
  /// Axes that cut the batch.
  std::set<std::string> sample_axes;
};

/// `inputs`: where each input node lies.
ValueFacts value_facts(const ir::Graph& graph, const PartitionOptions& options,
                       const std::vector<shard::PartitionSpec>& inputs);

/// Places of the input nodes, in order: those of the options, checked, without axes of one device.
std::vector<shard::PartitionSpec> input_specs(const ir::Graph& graph,
                                              const PartitionOptions& options);

/// The node after that of the output "loss".
int32_t first_backward_node(const ir::Graph& graph);

}  // namespace espalier::passes::part
