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
// "layers.0.mlp.up.weight". The walks below are resolved when the program is compiled; a field that
// is left out of the list is plain data that is copied with the module (sizes, rates).
//
// tree.h changes trees; shard_plan.h places their parameters on a mesh.
#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "espalier/base/text.h"
#include "espalier/nn/param.h"

namespace espalier::nn {

template <typename Owner, typename Member>
struct Field {
  Member Owner::*member;
  std::string_view name;
};

/// A module that several fields hold. Walks visit it once, at its first path. Copies of a tree hold
/// the same module; the functions of tree.h and shard_plan.h give their result modules of its own.
template <typename T>
class Shared {
 public:
  Shared() = default;
  explicit Shared(T module) : module_(std::make_shared<T>(std::move(module))) {}
  explicit Shared(std::shared_ptr<T> module) : module_(std::move(module)) {}
  bool has_value() const { return module_ != nullptr; }
  T& operator*() const { return *module_; }
  T* operator->() const { return module_.get(); }
  const std::shared_ptr<T>& handle() const { return module_; }

 private:
  std::shared_ptr<T> module_;
};

namespace detail {
template <typename Owner, typename Member>
constexpr Field<Owner, Member> field(Member Owner::*member, std::string_view name) {
  return {member, name};
}
template <typename Tuple, size_t... I>
constexpr auto pair_up(const Tuple& flat, std::index_sequence<I...>) {
  return std::make_tuple(field(std::get<2 * I>(flat), std::get<2 * I + 1>(flat))...);
}
template <typename T>
inline constexpr bool kIsVector = false;
template <typename T>
inline constexpr bool kIsVector<std::vector<T>> = true;
template <typename T>
inline constexpr bool kIsOptional = false;
template <typename T>
inline constexpr bool kIsOptional<std::optional<T>> = true;
template <typename T>
inline constexpr bool kIsShared = false;
template <typename T>
inline constexpr bool kIsShared<Shared<T>> = true;
}  // namespace detail

/// fields(&M::a, "a", &M::b, "b", ...): the list of a module's fields, in the order of walks.
template <typename... MembersAndNames>
constexpr auto fields(MembersAndNames... members_and_names) {
  static_assert(sizeof...(MembersAndNames) % 2 == 0, "fields takes pairs of member and name");
  return detail::pair_up(std::make_tuple(members_and_names...),
                         std::make_index_sequence<sizeof...(MembersAndNames) / 2>{});
}

/// Base of every module: names the type as one and adds nothing to its size.
template <typename Self>
struct Module {};

template <typename T>
concept IsModule =
    std::is_base_of_v<Module<std::remove_const_t<T>>, std::remove_const_t<T>> && requires {
  std::remove_const_t<T>::fields;
};

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

/// on_leaf(path, Param&) at leaves; on_module(path, module&) after a module's fields.
template <typename OnLeaf, typename OnModule>
class Walk {
 public:
  Walk(std::string& path, OnLeaf& on_leaf, OnModule& on_module)
      : path_(path), on_leaf_(on_leaf), on_module_(on_module) {}

  template <typename Node>
  void visit(Node& node) {
    using T = std::remove_const_t<Node>;
    if constexpr (std::is_same_v<T, Param>) {
      on_leaf_(std::string_view(path_), node);
    } else if constexpr (IsModule<T>) {
      std::apply([&](const auto&... field) { (enter(node.*(field.member), field.name), ...); },
                 T::fields);
      on_module_(std::string_view(path_), node);
    } else if constexpr (kIsVector<T>) {
      for (size_t i = 0; i < node.size(); ++i) {
        PathPart part(path_, i);
        visit(node[i]);
      }
    } else if constexpr (kIsOptional<T>) {
      if (node.has_value()) visit(*node);
    } else {
      static_assert(kIsShared<T>,
                    "a field is a Param, a module, or a vector, optional or Shared of those");
      if (!node.has_value() ||
          std::find(seen_.begin(), seen_.end(), node.handle().get()) != seen_.end()) {
        return;
      }
      seen_.push_back(node.handle().get());
      visit(*node);
    }
  }

 private:
  template <typename Member>
  void enter(Member& member, std::string_view name) {
    if constexpr (kIsOptional<std::remove_const_t<Member>>) {
      if (!member.has_value()) return;
    }
    PathPart part(path_, name);
    visit(member);
  }

  std::string& path_;
  OnLeaf& on_leaf_;
  OnModule& on_module_;
  std::vector<const void*> seen_;  // shared modules
};

template <typename Node, typename OnLeaf, typename OnModule>
void walk(Node& node, std::string& path, OnLeaf& on_leaf, OnModule& on_module) {
  Walk<OnLeaf, OnModule>(path, on_leaf, on_module).visit(node);
}

inline constexpr auto kNothing = [](auto&&...) {};

}  // namespace detail

/// Whether a walk visits second paths of tied leaves too.
enum class Tied { skip, visit };

/// fn(std::string_view path, Param&) for each leaf, fields in order. A tied leaf comes once, at the
/// path that owns it, unless `tied` says otherwise.
template <typename M, typename Fn>
void for_each_param(M& module, Fn&& fn, Tied tied = Tied::skip) {
  std::string path;
  auto leaf = [&](std::string_view at, auto& param) {
    if (!param.absent && (tied == Tied::visit || param.tied_to.empty())) fn(at, param);
  };
  detail::walk(module, path, leaf, detail::kNothing);
}

/// Whether a walk over modules ends with the root, whose path is empty.
enum class Root { skip, visit };

/// fn(std::string_view path, auto& module) for each module, children before their parents, fields
/// in order.
template <typename M, typename Fn>
void for_each_module(M& module, Fn&& fn, Root root = Root::skip) {
  std::string path;
  auto on_module = [&](std::string_view at, auto& m) {
    if (root == Root::visit || !at.empty()) fn(at, m);
  };
  detail::walk(module, path, detail::kNothing, on_module);
}

/// Paths of all leaves in order.
template <typename M>
std::vector<std::string> param_paths(const M& module, Tied tied = Tied::skip) {
  std::vector<std::string> paths;
  for_each_param(
      module, [&](std::string_view path, const Param&) { paths.emplace_back(path); }, tied);
  return paths;
}

/// Elements of all leaves; a tied leaf counts once.
template <typename M>
int64_t param_count(const M& module) {
  int64_t count = 0;
  for_each_param(module, [&](std::string_view, const Param& p) { count += p.shape.numel(); });
  return count;
}

/// The leaf at `path`; throws `user` with the nearest path when there is none.
template <typename M>
auto& param_at(M& module, std::string_view path) {
  std::conditional_t<std::is_const_v<M>, const Param, Param>* found = nullptr;
  for_each_param(
      module,
      [&](std::string_view at, auto& p) {
        if (at == path) found = &p;
      },
      Tied::visit);
  if (found == nullptr) {
    const std::vector<std::string> paths = param_paths(module, Tied::visit);
    fail(ErrorKind::user, "nn", "no parameter at {}{}", path, nearest_hint(path, paths));
  }
  return *found;
}

/// Name of the graph input that stands for the parameter at `path`.
inline std::string input_name(std::string_view path) { return "param." + std::string(path); }

/// Makes a graph input of role "parameter", named input_name(path), for every leaf, and binds the
/// leaf to it; leaves stored in bf16 or f16 are widened to f32 where they are used. Second paths of
/// tied leaves get the input of the first. Trace with a copy of a module: a bound leaf points into
/// the builder.
template <typename M>
void bind(M& module, ir::Builder& builder) {
  std::map<std::string, const Param*, std::less<>> owners;
  for_each_param(module, [&](std::string_view path, Param& p) {
    ESPALIER_CHECK(owners.emplace(path, &p).second, ErrorKind::user, "nn",
                   "two parameters at {}; fields of one module need different names", path);
    p.bound = Tensor(builder, builder.input(input_name(path), {p.dtype, p.shape}, "parameter"));
    if (p.dtype == DType::bf16 || p.dtype == DType::f16) p.bound = convert(p.bound, DType::f32);
  });
  for_each_param(
      module,
      [&](std::string_view path, Param& p) {
        if (p.tied_to.empty()) return;
        const auto owner = owners.find(p.tied_to);
        if (owner == owners.end()) {
          fail(ErrorKind::user, "nn", "{} is tied to {}, where no parameter is{}", path, p.tied_to,
               nearest_hint(p.tied_to, param_paths(module)));
        }
        ESPALIER_CHECK(owner->second->shape == p.shape && owner->second->dtype == p.dtype,
                       ErrorKind::user, "nn", "{} {}{} is tied to {} {}{}", path, name(p.dtype),
                       p.shape.str(), p.tied_to, name(owner->second->dtype),
                       owner->second->shape.str());
        p.bound = owner->second->bound;
      },
      Tied::visit);
}

/// Gives every leaf its initial values.
template <typename M>
void materialize(M& module, uint64_t seed) {
  for_each_param(module, [&](std::string_view path, Param& p) {
    p.data = HostTensor(p.dtype, p.shape);
    fill(p.init, seed, path, p.data);
  });
}

}  // namespace espalier::nn
