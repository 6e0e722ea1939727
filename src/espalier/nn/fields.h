// SPDX-License-Identifier: Apache-2.0
// What makes a struct a module (see module.h).
#pragma once

#include <memory>
#include <optional>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

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

}  // namespace espalier::nn
