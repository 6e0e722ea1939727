// SPDX-License-Identifier: Apache-2.0
// The meaning of a graph that every device of a mesh runs on its own pieces: all devices in one
// process, in step, collectives included.
#pragma once

#include <vector>

#include "espalier/interp/interp.h"
#include "espalier/shard/spec.h"

namespace espalier::interp {

/// Values of one graph on each device: [rank][input or output].
using OnMesh = std::vector<std::vector<DoubleTensor>>;

/// Outputs of each rank. Throws `user` when there are not inputs for every rank, and when a
/// collective names axes or a number of devices that the mesh does not have. `options.watch` sees
/// the results of every rank, one after the other.
OnMesh evaluate_on_mesh(const ir::Graph& graph, const shard::Mesh& mesh, const OnMesh& inputs,
                        const Options& options = {});

/// The piece of a value that a rank holds.
DoubleTensor take_piece(const DoubleTensor& whole, const shard::PartitionSpec& spec,
                        const shard::Mesh& mesh, int64_t rank);
/// Puts `piece`, which is that of `rank`, into its place in `whole`.
void put_piece(const DoubleTensor& piece, const shard::PartitionSpec& spec, const shard::Mesh& mesh,
               int64_t rank, DoubleTensor& whole);

}  // namespace espalier::interp
