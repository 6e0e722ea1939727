// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "espalier/ir/graph.h"

namespace espalier::ir {
namespace {

bool equal(const AttrValue& a, const AttrValue& b) {
  const auto* x = std::get_if<double>(&a);
  const auto* y = std::get_if<double>(&b);
  if (x == nullptr || y == nullptr) return a == b;
  return (std::isnan(*x) && std::isnan(*y)) || (*x == *y && std::signbit(*x) == std::signbit(*y));
}

}  // namespace

bool equal(const Attrs& a, const Attrs& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
    return x.first == y.first && equal(x.second, y.second);
  });
}

namespace {

bool equal(const Node& a, const Node& b) {
  return a.op == b.op && a.inputs == b.inputs && equal(a.attrs, b.attrs) && a.types == b.types &&
         a.scope == b.scope;
}

bool equal(const Output& a, const Output& b) {
  return a.name == b.name && a.value == b.value && a.alias == b.alias;
}

}  // namespace

bool equal(const Graph& a, const Graph& b) {
  const auto same = [](const auto& x, const auto& y) { return equal(x, y); };
  const auto same_body = [](const auto& x, const auto& y) { return equal(*x, *y); };
  return a.name() == b.name() &&
         std::equal(a.nodes().begin(), a.nodes().end(), b.nodes().begin(), b.nodes().end(), same) &&
         std::equal(a.outputs().begin(), a.outputs().end(), b.outputs().begin(), b.outputs().end(),
                    same) &&
         std::equal(a.bodies().begin(), a.bodies().end(), b.bodies().begin(), b.bodies().end(),
                    same_body);
}

}  // namespace espalier::ir
