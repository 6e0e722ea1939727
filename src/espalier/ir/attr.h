// SPDX-License-Identifier: Apache-2.0
// Attributes of a node: a short sorted list of (key, value). The kind of value follows from the
// key.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "espalier/base/shared.h"
#include "espalier/tensor/dtype.h"

namespace espalier::ir {

/// One row of the attribute table each (see attr.cpp).
enum class Attr : uint8_t {
  name,          // text: input name
  role,          // text: "batch", "parameter", "state", "scalar"
  dtype,         // result dtype
  shape,         // integers: result shape
  value,         // real
  axis,          // integer
  axes,          // integers
  permutation,   // integers
  starts,        // integers
  limits,        // integers
  low,           // integers
  high,          // integers
  lhs_batch,     // integers
  rhs_batch,     // integers
  lhs_contract,  // integers
  rhs_contract,  // integers
  rows,          // integer: rows of the table a scatter_add writes
  id,            // integer: random stream
  epsilon,       // real
  scale,         // real
  rate,          // real: dropout probability
  causal,        // 0/1
  key_mask,      // 0/1: the optional key-padding mask operand is present
  segments,      // 0/1: the optional segment operands are present
  activation,    // text: "relu", "gelu", "gelu_tanh"
  bias,          // 0/1: the optional bias operand is present
  accumulate,    // 0/1: the optional addend operand is present
  packed,        // 0/1: the right operand never changes and is packed once
  rounded,       // dtype: the right operand is rounded to it when it is packed
  remat,         // integer: copy number of a recomputed node (keeps cse from undoing it)
  mesh_axes,     // text: axes of the mesh that a group of devices lies along: "data", "data,model"
  devices,       // integer: devices of a group
  reduction,     // text: "sum" (where absent) or "max"
  whole,         // integers: shape of the whole value whose piece the result is
  cut,           // text: how it is cut, as shard::PartitionSpec::str writes it
  body,          // integer: index of a body graph (fusion)
};

enum class AttrKind : uint8_t { integer, real, integers, text, dtype };
using AttrValue = std::variant<int64_t, double, std::vector<int64_t>, std::string, DType>;

std::string_view name(Attr attr);
AttrKind kind(Attr attr);
std::optional<Attr> parse_attr(std::string_view text);

/// Sorted by key, at most one value a key. Copies share one list until one of them changes.
class Attrs {
 public:
  Attrs() = default;
  Attrs(std::initializer_list<std::pair<Attr, AttrValue>> values);
  void set(Attr key, AttrValue value);
  void erase(Attr key);
  bool has(Attr key) const { return find(key) != nullptr; }
  /// Typed access; throws `internal` when absent or of another kind.
  int64_t integer(Attr key) const;
  int64_t integer_or(Attr key, int64_t fallback) const;
  double real(Attr key) const;
  double real_or(Attr key, double fallback) const;
  const std::vector<int64_t>& integers(Attr key) const;
  const std::string& text(Attr key) const;
  std::string text_or(Attr key, std::string fallback) const;
  DType dtype(Attr key) const;
  auto begin() const { return values_.begin(); }
  auto end() const { return values_.end(); }
  bool empty() const { return values_.empty(); }
  friend bool operator==(const Attrs&, const Attrs&) = default;

 private:
  using Entry = std::pair<Attr, AttrValue>;
  const AttrValue* find(Attr key) const;
  SharedList<Entry> values_;
};

/// The same keys with the same values. A NaN equals a NaN, and 0 is not -0.
bool equal(const Attrs& a, const Attrs& b);

}  // namespace espalier::ir
