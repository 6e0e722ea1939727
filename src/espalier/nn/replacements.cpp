// SPDX-License-Identifier: Apache-2.0
#include "espalier/nn/replacements.h"

#include <algorithm>

#include "espalier/base/error.h"

namespace espalier::nn::detail {

bool path_less(std::string_view a, std::string_view b) {
  const auto [x, y] = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  if (x == a.end() || y == b.end()) return x == a.end() && y != b.end();
  if ((*x == '.') != (*y == '.')) return *x == '.';
  return *x < *y;
}

Replacer::Replacer(std::vector<Replacement>& replacements) {
  targets_.reserve(replacements.size());
  for (Replacement& r : replacements) targets_.push_back({r.path(), &r});
  std::sort(targets_.begin(), targets_.end(),
            [](const Target& a, const Target& b) { return path_less(a.path, b.path); });
  for (size_t i = 1; i < targets_.size(); ++i) {
    ESPALIER_CHECK(targets_[i - 1].path != targets_[i].path, ErrorKind::user, "tree_at",
                   "{} comes twice", targets_[i].path);
  }
}

const Replacement* Replacer::unused() const {
  for (const Target& target : targets_) {
    if (!target.used) return target.replacement;
  }
  return nullptr;
}

Replacer::Targets Replacer::below(Targets targets, size_t at, std::string_view part) {
  // -1, 0, 1: the next part of a path comes before, is, or comes after `part`.
  const auto side = [&](const Target& target) {
    const std::string_view rest = target.path.size() < at ? "" : target.path.substr(at);
    const std::string_view next = rest.substr(0, rest.find('.'));
    return next == part ? 0 : path_less(next, part) ? -1 : 1;
  };
  const auto first = std::partition_point(targets.begin(), targets.end(),
                                          [&](const Target& t) { return side(t) < 0; });
  const auto last =
      std::partition_point(first, targets.end(), [&](const Target& t) { return side(t) == 0; });
  return {first, last};
}

void Replacer::wrong_type(const Target& target, const std::type_info& wanted) {
  fail(ErrorKind::user, "tree_at", "{} is a {}, its replacement a {}", target.path,
       type_name(wanted), type_name(target.replacement->value().type()));
}

}  // namespace espalier::nn::detail
