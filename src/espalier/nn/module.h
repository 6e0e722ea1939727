// SPDX-License-Identifier: Apache-2.0
// Module trees. A module is a plain struct whose fields are listed once:
//
//   struct Mlp : nn::Module<Mlp> {
//     nn::Linear up, down;
//     static constexpr auto fields = nn::fields(&Mlp::up, "up", &Mlp::down, "down");
//     Tensor operator()(Tensor x) const { return down(relu(up(x))); }
//   };
//
// A field is a Param, a module, a std::vector of those (items are named by their index), a
// std::optional of one, or a Shared module, which several fields may hold. Paths are joined by '.':
// "layers.0.mlp.up.weight". A field that is left out of the list is plain data
// that is copied with the module (sizes, rates).
//
// tree.h changes trees; shard_plan.h places their parameters on a mesh.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "espalier/nn/fields.h"
#include "espalier/nn/module_ref.h"
#include "espalier/nn/param.h"

namespace espalier::nn {

/// Whether a walk visits second paths of tied leaves too.
enum class Tied { skip, visit };
/// Whether a walk over modules ends with the root, whose path is empty.
enum class Root { skip, visit };

struct LeafEntry {
  std::string path;
  const Param* leaf;
};
struct ModuleEntry {
  std::string path;
  ModuleRef module;
};

namespace detail {

/// The root of a walk that does not change a const tree.
template <IsModule M>
ModuleRef root_of(M& tree) {
  return ModuleRef(const_cast<std::remove_const_t<M>&>(tree));
}

void for_each_param(ModuleRef root, OnLeaf fn, Tied tied);
void for_each_module(ModuleRef root, OnModule fn, Root visit_root);
std::vector<ModuleEntry> iter_module(ModuleRef root, Root visit_root);
std::vector<LeafEntry> leaves_of(ModuleRef root, Tied tied);
std::vector<std::string> param_paths(ModuleRef root, Tied tied);
/// Paths of all modules and leaves, for messages.
std::vector<std::string> all_paths(ModuleRef root);
int64_t param_count(ModuleRef root);
Param& param_at(ModuleRef root, std::string_view path);
void bind(ModuleRef root, ir::Builder& builder);
void materialize(ModuleRef root, uint64_t seed);

}  // namespace detail

/// fn(std::string_view path, Param&) for each leaf, fields in order. A tied leaf comes once, at the
/// path that owns it, unless `tied` says otherwise. Leaves of a const tree are const.
template <IsModule M, typename Fn>
void for_each_param(M& module, Fn&& fn, Tied tied = Tied::skip) {
  using Leaf = std::conditional_t<std::is_const_v<M>, const Param, Param>;
  detail::for_each_param(
      detail::root_of(module),
      [&](std::string_view path, Param& leaf) { fn(path, static_cast<Leaf&>(leaf)); }, tied);
}

/// fn(std::string_view path, ModuleRef module) for each module, children before their parents,
/// fields in order.
template <IsModule M, typename Fn>
void for_each_module(M& module, Fn&& fn, Root root = Root::skip) {
  detail::for_each_module(ModuleRef(module), fn, root);
}

/// Path and module, children before their parents, fields in order; the root, whose path is empty,
/// comes last and on request. A Shared module comes once, at its first path.
template <IsModule M>
std::vector<ModuleEntry> iter_module(M& tree, Root root = Root::skip) {
  return detail::iter_module(ModuleRef(tree), root);
}

/// Path and leaf, fields in order; what for_each_param visits.
template <IsModule M>
std::vector<LeafEntry> leaves_of(const M& module, Tied tied = Tied::skip) {
  return detail::leaves_of(detail::root_of(module), tied);
}

/// Paths of all leaves in order.
template <IsModule M>
std::vector<std::string> param_paths(const M& module, Tied tied = Tied::skip) {
  return detail::param_paths(detail::root_of(module), tied);
}

/// Elements of all leaves; a tied leaf counts once.
template <IsModule M>
int64_t param_count(const M& module) {
  return detail::param_count(detail::root_of(module));
}

/// The leaf at `path`; throws `user` with the nearest path when there is none.
template <IsModule M>
auto& param_at(M& module, std::string_view path) {
  using Leaf = std::conditional_t<std::is_const_v<M>, const Param, Param>;
  return static_cast<Leaf&>(detail::param_at(detail::root_of(module), path));
}

/// Name of the graph input that stands for the parameter at `path`.
inline std::string input_name(std::string_view path) { return "param." + std::string(path); }

/// Makes a graph input of role "parameter", named input_name(path), for every leaf, and binds the
/// leaf to it; leaves stored in bf16 or f16 are widened to f32 where they are used. Second paths of
/// tied leaves get the input of the first. Trace with a copy of a module: a bound leaf points into
/// the builder.
template <IsModule M>
void bind(M& module, ir::Builder& builder) {
  detail::bind(ModuleRef(module), builder);
}

/// Gives every leaf its initial values.
template <IsModule M>
void materialize(M& module, uint64_t seed) {
  detail::materialize(ModuleRef(module), seed);
}

}  // namespace espalier::nn
