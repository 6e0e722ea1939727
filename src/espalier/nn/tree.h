// SPDX-License-Identifier: Apache-2.0
// Functions from trees to trees. Each takes a tree by value and returns the changed one: pass a
// copy to keep the original, or std::move it when it is no longer needed.
//
//   auto [train, rest] = partition(model, [](std::string_view path, const Param&) { ... });
//   model = combine(std::move(train), std::move(rest));
//   model = tree_at(std::move(model), "layers.3.mlp.up", Linear(8, 32));
#pragma once

#include <any>
#include <concepts>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "espalier/base/function_ref.h"
#include "espalier/nn/module.h"
#include "espalier/nn/replacements.h"

namespace espalier::nn {
namespace detail {

/// Whether trees of this type can hold Shared modules.
template <typename T>
constexpr bool holds_shared() {
  if constexpr (kIsShared<T>) {
    return true;
  } else if constexpr (kIsVector<T> || kIsOptional<T>) {
    return holds_shared<typename T::value_type>();
  } else if constexpr (IsModule<T>) {
    return std::apply(
        [](const auto&... field) {
          return (
              holds_shared<std::remove_cvref_t<decltype(std::declval<T&>().*(field.member))>>() ||
              ...);
        },
        T::fields);
  }
  return false;
}

using Clones = std::unordered_map<const void*, std::shared_ptr<void>>;

/// Gives a copy of a tree Shared modules of its own, shared as before.
template <typename T>
void unshare(T& node, Clones& clones) {
  if constexpr (holds_shared<T>()) {
    if constexpr (kIsVector<T>) {
      for (auto& item : node) unshare(item, clones);
    } else if constexpr (kIsOptional<T>) {
      if (node) unshare(*node, clones);
    } else if constexpr (kIsShared<T>) {
      if (!node.has_value()) return;
      using Inner = std::remove_cvref_t<decltype(*node)>;
      auto [at, fresh] = clones.try_emplace(node.handle().get());
      if (fresh) {
        auto clone = std::make_shared<Inner>(*node);
        at->second = clone;
        unshare(*clone, clones);
      }
      node = T(std::static_pointer_cast<Inner>(clones.at(node.handle().get())));
    } else {
      std::apply([&](const auto&... field) { (unshare(node.*(field.member), clones), ...); },
                 T::fields);
    }
  }
}

template <typename M>
void unshare(M& tree) {
  Clones clones;
  unshare(tree, clones);
}

/// Takes from `tree` the leaves for which the predicate is false, from `rest`, its copy, the
/// others.
void partition(ModuleRef tree, ModuleRef rest,
               FunctionRef<bool(std::string_view path, const Param& leaf)> predicate);
/// Moves the leaves that `first` lacks from `second`.
void combine(ModuleRef first, ModuleRef second);
/// Throws for replacements that found no place in the tree.
void check_all_used(const Replacer& replacer, ModuleRef tree);

}  // namespace detail

/// fn(std::string_view path, Param leaf) -> Param for every leaf; a tied leaf comes once.
template <IsModule M, typename Fn>
M map_leaves(M tree, Fn&& fn) {
  detail::unshare(tree);
  for_each_param(tree,
                 [&](std::string_view path, Param& leaf) { leaf = fn(path, std::move(leaf)); });
  return tree;
}

/// Splits the leaves by predicate(std::string_view path, const Param&) into two trees of the same
/// structure: those for which it is true, and the rest. A leaf that went to the other tree is
/// `absent`: it keeps its shape, owns no bytes, and walks pass it by. All paths of a tied leaf go
/// where the leaf goes.
template <IsModule M, typename Predicate>
std::pair<M, M> partition(M tree, Predicate&& predicate) {
  detail::unshare(tree);
  M rest = tree;
  detail::unshare(rest);
  detail::partition(ModuleRef(tree), ModuleRef(rest), predicate);
  return {std::move(tree), std::move(rest)};
}

/// The inverse of partition. Throws `user` naming the path where the trees differ in structure, or
/// where a leaf is in both or in neither.
template <IsModule M>
M combine(M first, M second) {
  detail::unshare(first);
  detail::combine(ModuleRef(first), ModuleRef(second));
  return first;
}

/// The tree with modules or leaves replaced by others of the same type, in one walk that enters
/// only the branches that hold a replacement. An optional field may be filled this way. When one
/// path lies below another, the outer replacement is made first. Throws `user` for a path that
/// does not exist (naming the nearest), a type that differs, and a path that comes twice.
template <IsModule M>
M tree_at(M tree, std::vector<Replacement> replacements) {
  detail::unshare(tree);
  detail::Replacer replacer(replacements);
  replacer.visit(tree);
  detail::check_all_used(replacer, ModuleRef(tree));
  return tree;
}

template <IsModule M, typename T>
M tree_at(M tree, std::string path, T replacement) {
  std::vector<Replacement> one;
  one.emplace_back(std::move(path), std::move(replacement));
  return tree_at(std::move(tree), std::move(one));
}

}  // namespace espalier::nn
