// SPDX-License-Identifier: Apache-2.0
// A value that never changes, shared by its copies: what a node says of itself goes from graph to
// graph without being copied.
#pragma once

#include <concepts>
#include <initializer_list>
#include <memory>
#include <utility>
#include <vector>

namespace espalier {

template <typename T>
class Shared {
 public:
  Shared() : value_(empty()) {}
  Shared(T value) : value_(std::make_shared<const T>(std::move(value))) {}
  /// From what a T can be made of.
  template <typename U>
  requires(std::convertible_to<const U&, T> && !std::same_as<U, T> && !std::derived_from<U, Shared>)
      Shared(const U& value)
      : Shared(T(value)) {}

  const T& operator*() const { return *value_; }
  const T* operator->() const { return value_.get(); }
  operator const T&() const { return *value_; }
  /// One value, without looking at it.
  bool same(const Shared& other) const { return value_ == other.value_; }
  friend bool operator==(const Shared& a, const Shared& b) { return a.same(b) || *a == *b; }

 private:
  static const std::shared_ptr<const T>& empty() {
    static const auto value = std::make_shared<const T>();
    return value;
  }
  std::shared_ptr<const T> value_;
};

/// A shared list, read like a vector.
template <typename T>
class SharedList : public Shared<std::vector<T>> {
 public:
  using Shared<std::vector<T>>::Shared;
  SharedList() = default;
  SharedList(std::initializer_list<T> values) : Shared<std::vector<T>>(std::vector<T>(values)) {}

  size_t size() const { return (*this)->size(); }
  bool empty() const { return (*this)->empty(); }
  auto begin() const { return (*this)->begin(); }
  auto end() const { return (*this)->end(); }
  const T& operator[](size_t i) const { return (**this)[i]; }
  const T& at(size_t i) const { return (*this)->at(i); }
};

}  // namespace espalier
