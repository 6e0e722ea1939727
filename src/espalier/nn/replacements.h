// SPDX-License-Identifier: Apache-2.0
// What tree_at puts where: values by path, and the walk that finds their places.
#pragma once

#include <any>
#include <charconv>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "espalier/nn/module_ref.h"

namespace espalier::nn {

/// A module or leaf with the path where it shall stand.
class Replacement {
 public:
  template <typename T>
  requires(IsModule<T> || std::is_same_v<T, Param>) Replacement(std::string path, T value)
      : path_(std::move(path)), value_(std::move(value)) {}

  const std::string& path() const { return path_; }
  std::any& value() { return value_; }

 private:
  std::string path_;
  std::any value_;
};

namespace detail {

/// Orders paths so that everything below a path follows it: '.' comes before any other character.
bool path_less(std::string_view a, std::string_view b);

/// Walks down the branches that hold a replacement.
class Replacer {
 public:
  /// Throws `user` when a path comes twice.
  explicit Replacer(std::vector<Replacement>& replacements);

  template <typename M>
  void visit(M& root) {
    enter(root, {targets_.data(), targets_.size()}, 0);
  }
  /// A replacement whose path does not exist, or null.
  const Replacement* unused() const;

 private:
  struct Target {
    std::string_view path;
    Replacement* replacement;
    bool used = false;
  };
  using Targets = std::span<Target>;

  /// Those of `targets` whose next part, from `at` on, is `part`.
  static Targets below(Targets targets, size_t at, std::string_view part);

  /// `at`: characters of the paths up to this node, with the dot that follows. The targets lie at
  /// or below the node.
  template <typename Node>
  void enter(Node& node, Targets targets, size_t at) {
    if (targets.empty()) return;
    if (targets.front().path.size() + 1 == at) {
      put(node, targets.front());
      targets = targets.subspan(1);
    }
    descend(node, targets, at);
  }

  template <typename Node>
  void put(Node& node, Target& target) {
    std::any& value = target.replacement->value();
    if constexpr (kIsOptional<Node>) {
      if (auto* same = std::any_cast<typename Node::value_type>(&value)) {
        node = std::move(*same);
        target.used = true;
        return;
      }
      wrong_type(target, typeid(typename Node::value_type));
    } else if constexpr (kIsShared<Node>) {
      if (!node.has_value()) return;
      put(*node, target);
    } else if constexpr (kIsVector<Node>) {
      fail(ErrorKind::user, "tree_at", "{} is a list; replace its items, {}.0 and so on",
           target.path, target.path);
    } else {
      auto* same = std::any_cast<Node>(&value);
      if (same == nullptr) wrong_type(target, typeid(Node));
      node = std::move(*same);
      target.used = true;
    }
  }

  template <typename Node>
  void descend(Node& node, Targets targets, size_t at) {
    if (targets.empty()) return;
    if constexpr (kIsOptional<Node> || kIsShared<Node>) {
      if (node.has_value()) descend(*node, targets, at);
    } else if constexpr (kIsVector<Node>) {
      while (!targets.empty()) {
        const std::string_view rest = targets.front().path.substr(at);
        const std::string_view part = rest.substr(0, rest.find('.'));
        const Targets here = below(targets, at, part);
        size_t index = 0;
        const auto [stop, error] = std::from_chars(part.data(), part.data() + part.size(), index);
        const bool canonical = part.size() == 1 || part.front() != '0';
        if (error == std::errc() && stop == part.data() + part.size() && canonical &&
            index < node.size()) {
          enter(node[index], here, at + part.size() + 1);
        }
        targets = targets.subspan(here.size());
      }
    } else if constexpr (IsModule<Node>) {
      std::apply(
          [&](const auto&... field) {
            (enter(node.*(field.member), below(targets, at, field.name),
                   at + field.name.size() + 1),
             ...);
          },
          Node::fields);
    }
  }

  [[noreturn]] static void wrong_type(const Target& target, const std::type_info& wanted);

  std::vector<Target> targets_;
};

}  // namespace detail
}  // namespace espalier::nn
