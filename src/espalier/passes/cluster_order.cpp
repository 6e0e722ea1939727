// SPDX-License-Identifier: Apache-2.0
// Which clusters may become one without a cycle, and the order they run in.
#include <algorithm>
#include <queue>

#include "espalier/base/error.h"
#include "espalier/passes/cluster.h"

namespace espalier::passes {

using ir::Node;
using ir::Op;
using ir::Value;

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
  const size_t hubs = std::min(kHubs, apart.size());
  for (size_t hub = 0; hub < hubs; ++hub) {
    bit[static_cast<size_t>(apart[hub * apart.size() / hubs])] = uint64_t{1} << hub;
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

/// Whether all that `second` reads is made by `first` or by what stands before that.
bool Clusters::needs_only_earlier(int32_t second, int32_t first) const {
  for (int32_t id : members(second)) {
    for (Value v : graph_.node(id).inputs) {
      const int32_t cluster = of(made_by(id, v));
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
