// SPDX-License-Identifier: Apache-2.0
// What a forward pass knows beside its inputs: training or not, random numbers, requested hooks.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "espalier/base/glob.h"
#include "espalier/ir/tensor.h"

namespace espalier::nn {

/// Activations that the caller asked for by glob ("resid_pre.*"), in the order they were computed.
class Hooks {
 public:
  Hooks() = default;
  explicit Hooks(const std::vector<std::string>& globs) {
    for (const std::string& glob : globs) globs_.emplace_back(glob);
  }
  void offer(std::string_view name, Tensor x) {
    names_.emplace_back(name);
    for (const Glob& glob : globs_) {
      if (!glob.matches(name)) continue;
      found_.emplace_back(name, x);
      return;
    }
  }
  const std::vector<std::pair<std::string, Tensor>>& found() const { return found_; }
  /// Throws `user` when a glob matched no hook, naming the nearest hook.
  void check_all_matched() const;

 private:
  std::vector<Glob> globs_;
  std::vector<std::string> names_;
  std::vector<std::pair<std::string, Tensor>> found_;
};

struct Context {
  bool training = false;
  /// Seed and step; needed where training draws random numbers.
  RngState rng;
  Hooks* hooks = nullptr;

  /// Dropout while training, x itself otherwise.
  Tensor dropout(Tensor x, double rate) const {
    return training ? espalier::dropout(x, rate, rng) : x;
  }
  /// Offers an activation under a name and returns it.
  Tensor hook(std::string_view name, Tensor x) const {
    if (hooks != nullptr) hooks->offer(name, x);
    return x;
  }
};

}  // namespace espalier::nn
