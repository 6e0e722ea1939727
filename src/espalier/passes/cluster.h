// SPDX-License-Identifier: Apache-2.0
// Clusters: which nodes of a graph become one loop.
//
// A cluster has a domain, the shape it iterates over; the last axis is the inner one. Each member
// lives on some axes of the domain: all of them ("full"), or all but the last ("row": results of
// row reductions and what is computed from them). Sums over other axes leave the cluster through
// accumulators and are not used inside it.
#pragma once

#include <cstdint>
#include <vector>

#include "espalier/ir/graph.h"

namespace espalier::passes {

/// Elementwise ops, reductions and random draws: what a loop can compute.
bool is_loop_op(const ir::Graph& graph, int32_t id);

/// The value behind broadcasts: what a loop reads, or a member of the same loop.
ir::Value behind_broadcasts(const ir::Graph& graph, ir::Value value);

/// A reduction over the last axis of at least two, which stays inside a loop.
bool is_row_reduction(const ir::Graph& graph, int32_t id);

class Clusters {
 public:
  /// merge = false: every loop op is a cluster of its own.
  Clusters(const ir::Graph& graph, bool merge);

  /// Cluster of a node; nodes that are no loop ops are alone in theirs.
  int32_t of(int32_t node) const { return cluster_of_[static_cast<size_t>(node)]; }
  const std::vector<int32_t>& members(int32_t cluster) const {
    return members_[static_cast<size_t>(cluster)];
  }
  const Shape& domain(int32_t cluster) const { return domains_[static_cast<size_t>(cluster)]; }
  /// Clusters with members in an order in which each comes after what it needs.
  std::vector<int32_t> order() const;

 private:
  int32_t made_by(int32_t user, ir::Value operand) const;
  Shape natural_domain(int32_t id) const;
  bool is_row_only(int32_t cluster) const;
  bool needs_only_earlier(int32_t second, int32_t first) const;
  void find_hubs();
  bool join_in_order(int32_t a, int32_t b);
  void merge_siblings();
  bool stays_inside(int32_t producer, ir::Value used, int32_t consumer, const Shape& joint) const;
  bool edges_stay_inside(int32_t a, int32_t b, const Shape& joint) const;
  bool try_join(int32_t a, int32_t b, const Shape& joint);
  void try_merge(int32_t producer, ir::Value used, int32_t consumer);

  const ir::Graph& graph_;
  std::vector<std::vector<int32_t>> users_;
  std::vector<int32_t> cluster_of_;
  std::vector<std::vector<int32_t>> members_;
  std::vector<Shape> domains_;
  // A topological order of the clusters, kept valid by every merge; holes are -1.
  std::vector<int32_t> order_;
  std::vector<int32_t> position_;
  std::vector<int32_t> visited_;
  int32_t visit_ = 0;
  // A bit for each hub, a node that no loop takes in: those that a cluster needs, and those that
  // need it.
  std::vector<uint64_t> needs_, serves_;
};

}  // namespace espalier::passes
