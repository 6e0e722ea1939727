// SPDX-License-Identifier: Apache-2.0
#include "espalier/nn/tree.h"

#include "espalier/base/error.h"
#include "espalier/base/text.h"

namespace espalier::nn::detail {
namespace {

/// Every leaf, absent ones and second paths included.
void each_leaf(ModuleRef root, OnLeaf fn) {
  std::string path;
  root.walk(path, fn, kNothing);
}

/// Marks as absent the leaves whose owner `chosen` does not put on this side.
void leave_out(ModuleRef half, const std::unordered_map<std::string, bool>& chosen, bool side) {
  each_leaf(half, [&](std::string_view path, Param& leaf) {
    const auto at = chosen.find(leaf.tied_to.empty() ? std::string(path) : leaf.tied_to);
    if (leaf.absent || (at != chosen.end() && at->second == side)) return;
    leaf.absent = true;
    leaf.data = HostTensor();
    leaf.bound = Tensor();
  });
}

}  // namespace

void partition(ModuleRef tree, ModuleRef rest,
               FunctionRef<bool(std::string_view path, const Param& leaf)> predicate) {
  std::unordered_map<std::string, bool> chosen;
  for_each_param(
      tree,
      [&](std::string_view path, Param& leaf) { chosen.emplace(path, predicate(path, leaf)); },
      Tied::skip);
  leave_out(tree, chosen, true);
  leave_out(rest, chosen, false);
}

void combine(ModuleRef first, ModuleRef second) {
  std::vector<std::pair<std::string, Param*>> others;
  each_leaf(second, [&](std::string_view path, Param& leaf) { others.emplace_back(path, &leaf); });
  size_t next = 0;
  each_leaf(first, [&](std::string_view path, Param& leaf) {
    ESPALIER_CHECK(next < others.size() && others[next].first == path, ErrorKind::user, "combine",
                   "the trees differ in structure: {} faces {}", path,
                   next < others.size() ? others[next].first : "nothing");
    Param& other = *others[next++].second;
    ESPALIER_CHECK(leaf.absent != other.absent, ErrorKind::user, "combine",
                   "the leaf {} is in {} of the trees", path, leaf.absent ? "none" : "both");
    if (leaf.absent) leaf = std::move(other);
  });
  ESPALIER_CHECK(next == others.size(), ErrorKind::user, "combine",
                 "the trees differ in structure: nothing faces {}", others[next].first);
}

void check_all_used(const Replacer& replacer, ModuleRef tree) {
  const Replacement* left = replacer.unused();
  if (left == nullptr) return;
  fail(ErrorKind::user, "tree_at", "there is nothing at {}{}", left->path(),
       nearest_hint(left->path(), all_paths(tree)));
}

}  // namespace espalier::nn::detail
