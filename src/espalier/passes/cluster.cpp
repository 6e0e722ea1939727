// SPDX-License-Identifier: Apache-2.0
#include "espalier/passes/cluster.h"

#include <algorithm>
#include <functional>
#include <queue>

#include "espalier/base/error.h"

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
    // Loops see through broadcasts: those are no step between what they read and them.
    for (Value v : graph.node(id).inputs) {
      const Value source = is_loop_op(graph, id) ? behind_broadcasts(graph, v) : v;
      users_[static_cast<size_t>(source.node)].push_back(id);
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

/// Marks what leads to and from a few nodes spread over the graph. Most loops that cannot be joined
/// are a forward and a backward one with the rest of the model between them: a hub on that path
/// says so without a walk along it.
void Clusters::find_hubs() {
  constexpr size_t kHubs = 64;
  const auto count = static_cast<int32_t>(graph_.nodes().size());
  std::vector<int32_t> apart;
  for (int32_t id = 0; id < count; ++id) {
    const Node& node = graph_.node(id);
    if (!node.inputs.empty() && node.op != Op::broadcast && !is_loop_op(graph_, id)) {
      apart.push_back(id);
    }
  }
  std::vector<uint64_t> bit(graph_.nodes().size(), 0);
  for (size_t hub = 0; hub < std::min(kHubs, apart.size()); ++hub) {
    const size_t at = hub * apart.size() / std::min(kHubs, apart.size());
    bit[static_cast<size_t>(apart[at])] = uint64_t{1} << hub;
  }
  needs_.assign(graph_.nodes().size(), 0);
  serves_.assign(graph_.nodes().size(), 0);
  for (size_t i = 0; i < users_.size(); ++i) {
    for (int32_t user : users_[i]) needs_[static_cast<size_t>(user)] |= needs_[i] | bit[i];
  }
  for (size_t i = users_.size(); i-- > 0;) {
    for (int32_t user : users_[i]) {
      const auto u = static_cast<size_t>(user);
      serves_[i] |= serves_[u] | bit[u];
    }
  }
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

/// Whether all that `second` reads is made by `first` or by what stands before that.
bool Clusters::needs_only_earlier(int32_t second, int32_t first) const {
  for (int32_t id : members(second)) {
    for (Value v : graph_.node(id).inputs) {
      const Value source = is_loop_op(graph_, id) ? behind_broadcasts(graph_, v) : v;
      const int32_t cluster = of(source.node);
      if (cluster == second) continue;
      if (position_[static_cast<size_t>(cluster)] > position_[static_cast<size_t>(first)]) {
        return false;
      }
    }
  }
  return true;
}

/// Makes one place of the order for both clusters: what depends on the first of them moves behind
/// the second. False, and nothing changes, when a path leads from one to the other through a third.
bool Clusters::join_in_order(int32_t a, int32_t b) {
  const bool swapped = position_[static_cast<size_t>(a)] > position_[static_cast<size_t>(b)];
  const int32_t first = swapped ? b : a;
  const int32_t second = swapped ? a : b;
  const int32_t begin = position_[static_cast<size_t>(first)];
  const int32_t end = position_[static_cast<size_t>(second)];

  if (needs_only_earlier(second, first)) {
    // Backward loops that recompute from a forward value: nothing between the two matters.
    order_[static_cast<size_t>(end)] = -1;
    order_[static_cast<size_t>(begin)] = a;
    position_[static_cast<size_t>(a)] = begin;
    return true;
  }

  if ((serves_[static_cast<size_t>(first)] & needs_[static_cast<size_t>(second)]) != 0) {
    return false;  // through a hub
  }

  // Everything between the two that depends on the first.
  ++visit_;
  std::vector<int32_t> stack{first};
  while (!stack.empty()) {
    const int32_t cluster = stack.back();
    stack.pop_back();
    for (int32_t id : members(cluster)) {
      for (int32_t user : users_[static_cast<size_t>(id)]) {
        const int32_t next = of(user);
        if (next == second && cluster != first) return false;
        if (next == second || next == cluster || position_[static_cast<size_t>(next)] > end ||
            visited_[static_cast<size_t>(next)] == visit_) {
          continue;
        }
        visited_[static_cast<size_t>(next)] = visit_;
        stack.push_back(next);
      }
    }
  }
  std::vector<int32_t> before;
  std::vector<int32_t> after;
  for (int32_t p = begin + 1; p < end; ++p) {
    const int32_t cluster = order_[static_cast<size_t>(p)];
    if (cluster < 0) continue;
    (visited_[static_cast<size_t>(cluster)] == visit_ ? after : before).push_back(cluster);
  }
  for (int32_t p = begin; p <= end; ++p) order_[static_cast<size_t>(p)] = -1;
  int32_t place = begin;
  const auto put = [&](int32_t cluster) {
    order_[static_cast<size_t>(place)] = cluster;
    position_[static_cast<size_t>(cluster)] = place++;
  };
  for (int32_t cluster : before) put(cluster);
  put(a);
  for (int32_t cluster : after) put(cluster);
  return true;
}

std::vector<int32_t> Clusters::order() const {
  const auto count = static_cast<int32_t>(members_.size());
  std::vector<int32_t> missing(static_cast<size_t>(count), 0);
  std::vector<std::vector<int32_t>> next(static_cast<size_t>(count));
  for (int32_t id = 0; id < count; ++id) {
    for (int32_t user : users_[static_cast<size_t>(id)]) {
      if (of(user) == of(id)) continue;
      next[static_cast<size_t>(of(id))].push_back(of(user));
      ++missing[static_cast<size_t>(of(user))];
    }
  }
  // Among the ready clusters the one that was written first runs first.
  const auto later = [this](int32_t x, int32_t y) {
    return members(x).front() > members(y).front();
  };
  std::priority_queue<int32_t, std::vector<int32_t>, decltype(later)> ready(later);
  for (int32_t c = 0; c < count; ++c) {
    if (!members(c).empty() && missing[static_cast<size_t>(c)] == 0) ready.push(c);
  }
  std::vector<int32_t> result;
  size_t expected = 0;
  for (const auto& m : members_) expected += m.empty() ? 0 : 1;
  while (!ready.empty()) {
    const int32_t c = ready.top();
    ready.pop();
    result.push_back(c);
    for (int32_t n : next[static_cast<size_t>(c)]) {
      if (--missing[static_cast<size_t>(n)] == 0) ready.push(n);
    }
  }
  ESPALIER_ASSERT(result.size() == expected);
  return result;
}

}  // namespace espalier::passes
