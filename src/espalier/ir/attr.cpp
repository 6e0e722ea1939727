// SPDX-License-Identifier: Apache-2.0
#include "espalier/ir/attr.h"

#include <algorithm>
#include <array>

#include "espalier/base/error.h"

namespace espalier::ir {
namespace {
struct Row {
  Attr attr;
  std::string_view name;
  AttrKind kind;
};
constexpr std::array kRows{
    Row{Attr::name, "name", AttrKind::text},
    Row{Attr::role, "role", AttrKind::text},
    Row{Attr::dtype, "dtype", AttrKind::dtype},
    Row{Attr::shape, "shape", AttrKind::integers},
    Row{Attr::value, "value", AttrKind::real},
    Row{Attr::axis, "axis", AttrKind::integer},
    Row{Attr::axes, "axes", AttrKind::integers},
    Row{Attr::permutation, "permutation", AttrKind::integers},
    Row{Attr::starts, "starts", AttrKind::integers},
    Row{Attr::limits, "limits", AttrKind::integers},
    Row{Attr::low, "low", AttrKind::integers},
    Row{Attr::high, "high", AttrKind::integers},
    Row{Attr::lhs_batch, "lhs_batch", AttrKind::integers},
    Row{Attr::rhs_batch, "rhs_batch", AttrKind::integers},
    Row{Attr::lhs_contract, "lhs_contract", AttrKind::integers},
    Row{Attr::rhs_contract, "rhs_contract", AttrKind::integers},
    Row{Attr::rows, "rows", AttrKind::integer},
    Row{Attr::id, "id", AttrKind::integer},
    Row{Attr::epsilon, "epsilon", AttrKind::real},
    Row{Attr::scale, "scale", AttrKind::real},
    Row{Attr::rate, "rate", AttrKind::real},
    Row{Attr::causal, "causal", AttrKind::integer},
    Row{Attr::key_mask, "key_mask", AttrKind::integer},
    Row{Attr::segments, "segments", AttrKind::integer},
    Row{Attr::activation, "activation", AttrKind::text},
    Row{Attr::bias, "bias", AttrKind::integer},
    Row{Attr::accumulate, "accumulate", AttrKind::integer},
    Row{Attr::packed, "packed", AttrKind::integer},
    Row{Attr::rounded, "rounded", AttrKind::dtype},
    Row{Attr::remat, "remat", AttrKind::integer},
    Row{Attr::mesh_axes, "mesh_axes", AttrKind::text},
    Row{Attr::devices, "devices", AttrKind::integer},
    Row{Attr::reduction, "reduction", AttrKind::text},
    Row{Attr::whole, "whole", AttrKind::integers},
    Row{Attr::cut, "cut", AttrKind::text},
    Row{Attr::body, "body", AttrKind::integer},
};

constexpr bool rows_in_order() {
  for (size_t i = 0; i < kRows.size(); ++i) {
    if (static_cast<size_t>(kRows[i].attr) != i) return false;
  }
  return true;
}
static_assert(rows_in_order());

template <typename T>
const T& get(const AttrValue* value, Attr key) {
  const T* typed = value == nullptr ? nullptr : std::get_if<T>(value);
  if (typed == nullptr) {
    fail(ErrorKind::internal, "ir", "attribute {} is missing or of another kind", name(key));
  }
  return *typed;
}

void put(std::vector<std::pair<Attr, AttrValue>>& list, Attr key, AttrValue value) {
  ESPALIER_ASSERT(value.index() == static_cast<size_t>(kind(key)));
  const auto at = std::lower_bound(list.begin(), list.end(), key,
                                   [](const auto& entry, Attr k) { return entry.first < k; });
  if (at != list.end() && at->first == key) {
    at->second = std::move(value);
  } else {
    list.emplace(at, key, std::move(value));
  }
}
}  // namespace

std::string_view name(Attr attr) { return kRows[static_cast<size_t>(attr)].name; }
AttrKind kind(Attr attr) { return kRows[static_cast<size_t>(attr)].kind; }

std::optional<Attr> parse_attr(std::string_view text) {
  for (const Row& row : kRows) {
    if (row.name == text) return row.attr;
  }
  return std::nullopt;
}

Attrs::Attrs(std::initializer_list<std::pair<Attr, AttrValue>> values) {
  std::vector<Entry> list;
  list.reserve(values.size());
  for (const auto& [key, value] : values) put(list, key, value);
  values_ = std::move(list);
}

void Attrs::set(Attr key, AttrValue value) {
  std::vector<Entry> list = *values_;
  put(list, key, std::move(value));
  values_ = std::move(list);
}

void Attrs::erase(Attr key) {
  if (!has(key)) return;
  std::vector<Entry> list = *values_;
  std::erase_if(list, [key](const auto& entry) { return entry.first == key; });
  values_ = std::move(list);
}

const AttrValue* Attrs::find(Attr key) const {
  for (const auto& entry : values_) {
    if (entry.first == key) return &entry.second;
  }
  return nullptr;
}

int64_t Attrs::integer(Attr key) const { return get<int64_t>(find(key), key); }
double Attrs::real(Attr key) const { return get<double>(find(key), key); }
const std::string& Attrs::text(Attr key) const { return get<std::string>(find(key), key); }
DType Attrs::dtype(Attr key) const { return get<DType>(find(key), key); }
const std::vector<int64_t>& Attrs::integers(Attr key) const {
  return get<std::vector<int64_t>>(find(key), key);
}
int64_t Attrs::integer_or(Attr key, int64_t fallback) const {
  return has(key) ? integer(key) : fallback;
}
double Attrs::real_or(Attr key, double fallback) const { return has(key) ? real(key) : fallback; }
std::string Attrs::text_or(Attr key, std::string fallback) const {
  if (has(key)) return text(key);
  return fallback;
}

}  // namespace espalier::ir
