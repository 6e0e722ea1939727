// SPDX-License-Identifier: Apache-2.0
// ModuleRef: a module of any type, seen through one type. What a transform gets, and what walks
// over a tree are made of: the code of a walk is compiled once for each type of module, not again
// for whatever each walk does.
#pragma once

#include <array>
#include <charconv>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <vector>

#include "espalier/base/function_ref.h"
#include "espalier/nn/fields.h"
#include "espalier/nn/param.h"

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

class ModuleRef;

namespace detail {

/// Appends one part to a path for the lifetime of the object.
class PathPart {
 public:
  PathPart(std::string& path, std::string_view part) : path_(path), size_(path.size()) {
    if (!path.empty()) path += '.';
    path += part;
  }
  PathPart(std::string& path, size_t index) : path_(path), size_(path.size()) {
    std::array<char, 20> digits;
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), index).ptr;
    if (!path.empty()) path += '.';
    path.append(digits.data(), end);
  }
  ~PathPart() { path_.resize(size_); }
  PathPart(const PathPart&) = delete;
  PathPart& operator=(const PathPart&) = delete;

 private:
  std::string& path_;
  size_t size_;
};

using OnLeaf = FunctionRef<void(std::string_view path, Param& leaf)>;
using OnModule = FunctionRef<void(std::string_view path, ModuleRef module)>;

/// A walk on its way over a tree: every leaf, absent ones and second paths included, and every
/// module after its fields.
class Walk {
 public:
  Walk(std::string& path, OnLeaf on_leaf, OnModule on_module)
      : path_(path), on_leaf_(on_leaf), on_module_(on_module) {}

  void module(ModuleRef module);
  template <typename Member>
  void field(Member& member, std::string_view name) {
    if constexpr (kIsOptional<Member>) {
      if (!member.has_value()) return;
    }
    PathPart part(path_, name);
    visit(member);
  }

 private:
  template <typename Node>
  void visit(Node& node) {
    if constexpr (std::is_same_v<Node, Param>) {
      on_leaf_(path_, node);
    } else if constexpr (IsModule<Node>) {
      enter(node);
    } else if constexpr (kIsVector<Node>) {
      for (size_t i = 0; i < node.size(); ++i) {
        PathPart part(path_, i);
        visit(node[i]);
      }
    } else if constexpr (kIsOptional<Node>) {
      if (node.has_value()) visit(*node);
    } else {
      static_assert(kIsShared<Node>,
                    "a field is a Param, a module, or a vector, optional or Shared of those");
      if (node.has_value() && first_time(node.handle().get())) visit(*node);
    }
  }
  template <typename M>
  void enter(M& module);
  /// Whether the walk meets this shared module for the first time.
  bool first_time(const void* shared);

  std::string& path_;
  OnLeaf on_leaf_;
  OnModule on_module_;
  std::vector<const void*> seen_;  // shared modules
};

struct ModuleType {
  const std::type_info* info;
  std::span<const ParallelDims> parallel;
  void (*fields)(void* module, Walk& walk);
};

template <typename M>
constexpr std::span<const ParallelDims> parallel_of() {
  if constexpr (requires { M::parallel; }) return M::parallel;
  return {};
}

template <typename M>
void walk_fields(void* module, Walk& walk) {
  std::apply(
      [&](const auto&... field) {
        (walk.field(static_cast<M*>(module)->*(field.member), field.name), ...);
      },
      M::fields);
}

template <typename M>
inline const ModuleType kModuleType{&typeid(M), parallel_of<M>(), walk_fields<M>};

inline constexpr auto kNothing = [](auto&&...) {};

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
  void for_each_param(std::string& path, detail::OnLeaf fn) const;
  /// Every leaf and module at and below this one, see detail::Walk.
  void walk(std::string& path, detail::OnLeaf on_leaf, detail::OnModule on_module) const;

 private:
  friend class detail::Walk;

  void* module_;
  const detail::ModuleType* type_;
};

template <typename M>
void detail::Walk::enter(M& module) {
  this->module(ModuleRef(module));
}

}  // namespace espalier::nn
