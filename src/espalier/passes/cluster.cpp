// SPDX-License-Identifier: Apache-2.0
#include "espalier/passes/cluster.h"

#include <algorithm>

namespace espalier::passes {
namespace {

using ir::Attr;
using ir::Node;
using ir::Op;
using ir::Value;

/// Loops stay small enough to compile quickly and to keep their values in registers.
constexpr size_t kMaxMembers = 160;

bool is_reduction(const Node& node) { return ir::has_trait(node.op, ir::kReduction); }

}  // namespace

bool is_loop_op(const ir::Graph& graph, int32_t id) {
  const Op op = graph.node(id).op;
  return ir::has_trait(op, ir::kElementwise) || ir::has_trait(op, ir::kReduction) ||
         op == Op::random_uniform;
}

Value behind_broadcasts(const ir::Graph& graph, Value value) {
  while (graph.node(value).op == Op::broadcast) value = graph.node(value).inputs[0];
  return value;
}

bool is_row_reduction(const ir::Graph& graph, int32_t id) {
  const Node& node = graph.node(id);
  if (!is_reduction(node)) return false;
  const int64_t rank = graph.type(node.inputs[0]).shape.rank();
  return rank >= 2 && node.attrs.integers(Attr::axes) == std::vector<int64_t>{rank - 1};
}

Clusters::Clusters(const ir::Graph& graph, bool merge)
    : graph_(graph), users_(graph.nodes().size()), visited_(graph.nodes().size(), 0) {
  const auto count = static_cast<int32_t>(graph.nodes().size());
  for (int32_t id = 0; id < count; ++id) {
    cluster_of_.push_back(id);
    members_.push_back({id});
    domains_.push_back(natural_domain(id));
    for (Value v : graph.node(id).inputs) {
      users_[static_cast<size_t>(made_by(id, v))].push_back(id);
    }
  }
  if (!merge) return;
  // Constants and inputs stand before all else: they keep nothing from moving to the front.
  for (const bool leaves : {true, false}) {
    for (int32_t id = 0; id < count; ++id) {
      if (graph.node(id).inputs.empty() == leaves) order_.push_back(id);
    }
  }
  position_.resize(order_.size());
  for (int32_t p = 0; p < count; ++p) {
    position_[static_cast<size_t>(order_[static_cast<size_t>(p)])] = p;
  }
  find_hubs();
  for (int32_t id = 0; id < count; ++id) {
    if (!is_loop_op(graph, id)) continue;
    for (Value v : graph.node(id).inputs) {
      const Value source = behind_broadcasts(graph, v);
      if (is_loop_op(graph, source.node)) try_merge(source.node, v, id);
    }
  }
  merge_siblings();
}

/// Loops over one domain that read the same tensor of that shape become one: it is read once.
void Clusters::merge_siblings() {
  for (size_t i = 0; i < graph_.nodes().size(); ++i) {
    const Node& node = graph_.nodes()[i];
    if (node.op == Op::constant || node.op == Op::iota || node.types.size() != 1) continue;
    const Shape& shape = node.types[0].shape;
    if (shape.rank() < 2) continue;
    for (int32_t user : users_[i]) {
      if (!is_loop_op(graph_, user) || domain(of(user)) != shape) continue;
      for (int32_t other : users_[i]) {
        if (!is_loop_op(graph_, other) || domain(of(other)) != shape) continue;
        if (of(user) != of(other)) try_join(of(user), of(other), shape);
      }
    }
  }
}

/// Loops see through broadcasts: those are no step between what they read and them.
int32_t Clusters::made_by(int32_t user, Value operand) const {
  return (is_loop_op(graph_, user) ? behind_broadcasts(graph_, operand) : operand).node;
}

Shape Clusters::natural_domain(int32_t id) const {
  const Node& node = graph_.node(id);
  if (is_reduction(node)) return graph_.type(node.inputs[0]).shape;
  return node.types[0].shape;
}

/// Only elementwise members of the domain's own shape: such a cluster can become the row part of
/// a cluster whose domain has one more axis.
bool Clusters::is_row_only(int32_t cluster) const {
  for (int32_t id : members(cluster)) {
    const Node& node = graph_.node(id);
    if (is_reduction(node) || node.op == Op::random_uniform) return false;
    if (node.types[0].shape != domain(cluster)) return false;
  }
  return true;
}

namespace {
bool is_prefix(const Shape& row, const Shape& full) {
  return row.rank() >= 1 && full.rank() == row.rank() + 1 &&
         std::equal(row.begin(), row.end(), full.begin());
}

/// Broadcasts between `used` and its source add axes behind the source's own, or none.
bool broadcasts_keep_prefix(const ir::Graph& graph, Value used) {
  while (graph.node(used).op == Op::broadcast) {
    const auto& axes = graph.node(used).attrs.integers(Attr::axes);
    for (size_t i = 0; i < axes.size(); ++i) {
      if (axes[i] != static_cast<int64_t>(i)) return false;
    }
    used = graph.node(used).inputs[0];
  }
  return true;
}
}  // namespace

void Clusters::try_merge(int32_t producer, Value used, int32_t consumer) {
  const int32_t a = of(producer);
  const int32_t b = of(consumer);
  if (a == b) return;
  // A member is full or row: its shape says which.
  Shape joint;
  if (domain(a) == domain(b)) {
    joint = domain(a);
  } else if (is_prefix(domain(b), domain(a)) && is_row_only(b)) {
    joint = domain(a);
  } else if (is_prefix(domain(a), domain(b)) && is_row_only(a)) {
    joint = domain(b);
  } else {
    return;
  }
  if (stays_inside(producer, used, consumer, joint)) try_join(a, b, joint);
}

/// Whether `consumer` can read `used`, which is `producer` or a broadcast of it, inside one loop.
bool Clusters::stays_inside(int32_t producer, Value used, int32_t consumer,
                            const Shape& joint) const {
  // What leaves through an accumulator is complete only after the loop.
  if (is_reduction(graph_.node(producer)) && !is_row_reduction(graph_, producer)) return false;
  if (!broadcasts_keep_prefix(graph_, used)) return false;
  // The edge connects equal axes: full with full, row with row, row broadcast to full.
  const Shape& from = graph_.node(producer).types[0].shape;
  if (from != joint && !is_prefix(from, joint)) return false;
  // A full producer read by a row consumer would need its inner index.
  return from != joint || natural_domain(consumer) == joint;
}

/// Every value that passes from one cluster to the other stays inside the joint loop.
bool Clusters::edges_stay_inside(int32_t a, int32_t b, const Shape& joint) const {
  for (int32_t id : members(b)) {
    for (Value v : graph_.node(id).inputs) {
      const int32_t source = behind_broadcasts(graph_, v).node;
      if (of(source) == a && !stays_inside(source, v, id, joint)) return false;
    }
  }
  return true;
}

bool Clusters::try_join(int32_t a, int32_t b, const Shape& joint) {
  if (members(a).size() + members(b).size() > kMaxMembers) return false;
  if (!edges_stay_inside(a, b, joint) || !edges_stay_inside(b, a, joint)) return false;
  if (!join_in_order(a, b)) return false;
  auto& into = members_[static_cast<size_t>(a)];
  auto& gone = members_[static_cast<size_t>(b)];
  for (int32_t id : gone) cluster_of_[static_cast<size_t>(id)] = a;
  into.insert(into.end(), gone.begin(), gone.end());
  std::sort(into.begin(), into.end());
  gone.clear();
  needs_[static_cast<size_t>(a)] |= needs_[static_cast<size_t>(b)];
  serves_[static_cast<size_t>(a)] |= serves_[static_cast<size_t>(b)];
  domains_[static_cast<size_t>(a)] = joint;
  return true;
}

}  // namespace espalier::passes
