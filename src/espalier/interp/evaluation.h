// SPDX-License-Identifier: Apache-2.0
// Pieces of an evaluation that one device and a mesh of them share.
#pragma once

#include <span>
#include <vector>

#include "espalier/interp/kernels.h"

namespace espalier::interp {

/// Results of all nodes; those of a node are dropped after its last use.
class Values {
 public:
  explicit Values(const ir::Graph& graph)
      : results_(graph.nodes().size()), uses_(graph.use_counts()) {}

  std::vector<DoubleTensor>& operator[](int32_t node) {
    return results_[static_cast<size_t>(node)];
  }
  const DoubleTensor& operator[](ir::Value value) {
    return (*this)[value.node][static_cast<size_t>(value.index)];
  }
  void used(ir::Value value) {
    --uses_[static_cast<size_t>(value.node)];
    drop_if_dead(value.node);
  }
  void drop_if_dead(int32_t node) {
    if (uses_[static_cast<size_t>(node)] == 0) (*this)[node].clear();
  }

 private:
  std::vector<std::vector<DoubleTensor>> results_;
  std::vector<int32_t> uses_;
};

/// Throws `user` when `inputs` are not those of the input nodes `ids`.
void check_inputs(const ir::Graph& graph, const std::vector<int32_t>& ids,
                  std::span<const DoubleTensor> inputs);

/// To the elements a result of that type can hold; see Options::round_f32.
void round_elements(DType dtype, bool round_f32, Elements& elements);

/// Results of one node, no input, no collective, on one device. `place` is null outside of a mesh.
std::vector<DoubleTensor> run_node(const ir::Graph& graph, const ir::Node& node, Values& values,
                                   const Options& options, const Place* place);

}  // namespace espalier::interp
