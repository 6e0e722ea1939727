// SPDX-License-Identifier: Apache-2.0
// ModuleRef: a module of any type, seen through one type. What a transform gets.
#pragma once

#include <concepts>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <typeinfo>

#include "espalier/nn/module.h"

namespace espalier::nn {

/// How column_parallel and row_parallel cut one parameter of a layer: the dimension, or -1 for a
/// whole copy. A layer lists its parameters as a static member to take part:
///
///   static constexpr std::array parallel{ParallelDims{"weight", 0, 1}, ParallelDims{"bias", 0,
///   -1}};
struct ParallelDims {
  std::string_view param;
  int32_t column;
  int32_t row;
};

/// Name of a type for messages, as it is written in C++.
std::string type_name(const std::type_info& type);

namespace detail {

using VisitParam = void (*)(void* context, std::string_view path, Param& param);

struct ModuleType {
  const std::type_info* info;
  std::span<const ParallelDims> parallel;
  void (*visit)(void* module, std::string& path, void* context, VisitParam fn);
};

template <typename M>
constexpr std::span<const ParallelDims> parallel_of() {
  if constexpr (requires { M::parallel; }) return M::parallel;
  return {};
}

template <typename M>
inline const ModuleType kModuleType{
    &typeid(M), parallel_of<M>(),
    [](void* module, std::string& path, void* context, VisitParam fn) {
      auto leaf = [&](std::string_view at, Param& param) {
        if (!param.absent) fn(context, at, param);
      };
      walk(*static_cast<M*>(module), path, leaf, kNothing);
    }};

}  // namespace detail

class ModuleRef {
 public:
  template <IsModule M>
  explicit ModuleRef(M& module) : module_(&module), type_(&detail::kModuleType<M>) {
    static_assert(!std::is_const_v<M>, "a ModuleRef may change its module");
  }

  std::string type_name() const { return nn::type_name(*type_->info); }
  /// The module as an M, or null when it is of another type.
  template <typename M>
  M* as() const {
    return *type_->info == typeid(M) ? static_cast<M*>(module_) : nullptr;
  }
  /// What the module's type says about column and row parallel cuts; empty where it says nothing.
  std::span<const ParallelDims> parallel() const { return type_->parallel; }

  /// fn(std::string_view path, Param&) for the parameters at and below the module, second paths of
  /// tied ones included. `path` is that of the module.
  template <typename Fn>
  void for_each_param(std::string& path, Fn&& fn) const {
    type_->visit(module_, path, &fn, [](void* context, std::string_view at, Param& param) {
      (*static_cast<std::remove_reference_t<Fn>*>(context))(at, param);
    });
  }

 private:
  void* module_;
  const detail::ModuleType* type_;
};

struct ModuleEntry {
  std::string path;
  ModuleRef module;
};

/// Path and module, children before their parents, fields in order; the root, whose path is empty,
/// comes last and on request. A Shared module comes once, at its first path.
template <typename M>
std::vector<ModuleEntry> iter_module(M& tree, Root root = Root::skip) {
  std::vector<ModuleEntry> entries;
  for_each_module(
      tree,
      [&](std::string_view path, auto& module) {
        entries.push_back({std::string(path), ModuleRef(module)});
      },
      root);
  return entries;
}

}  // namespace espalier::nn
