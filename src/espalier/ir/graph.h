// SPDX-License-Identifier: Apache-2.0
// The graph: typed, immutable, nodes in topological order. Builders and parsers make graphs,
// passes make new ones from old ones.
#pragma once

#include <compare>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/base/shared.h"
#include "espalier/ir/op.h"

namespace espalier::ir {

/// Result `index` of node `node`.
struct Value {
  int32_t node = -1;
  int32_t index = 0;
  bool defined() const { return node >= 0; }
  friend bool operator==(const Value&, const Value&) = default;
  friend auto operator<=>(const Value&, const Value&) = default;
};

/// Copies share all but the operands.
struct Node {
  Op op = Op::constant;
  std::vector<Value> inputs;
  Attrs attrs;
  SharedList<TensorType> types;  // one per result
  Shared<std::string> scope;     // path of the module that made it: "layers.0.attention"
};

/// A named result. `alias` >= 0: the node of an input whose buffer this result replaces (state
/// that is updated in place); both have the same type.
struct Output {
  std::string name;
  Value value;
  int32_t alias = -1;
};

class Graph {
 public:
  const std::string& name() const { return name_; }
  const std::vector<Node>& nodes() const { return nodes_; }
  const Node& node(int32_t id) const { return nodes_[static_cast<size_t>(id)]; }
  const Node& node(Value value) const { return node(value.node); }
  const TensorType& type(Value value) const {
    return node(value).types[static_cast<size_t>(value.index)];
  }
  const std::vector<Output>& outputs() const { return outputs_; }
  /// Input nodes in order of creation.
  std::vector<int32_t> inputs() const;
  /// Bodies of fusion nodes, by their `body` attribute. Inputs of a body are the operands in order,
  /// its outputs the results.
  const std::vector<std::shared_ptr<const Graph>>& bodies() const { return bodies_; }
  const Graph& body(const Node& fusion) const;
  /// Number of uses of each node's results by nodes and outputs.
  std::vector<int32_t> use_counts() const;

 private:
  friend class Builder;
  std::string name_;
  std::vector<Node> nodes_;
  std::vector<Output> outputs_;
  std::vector<std::shared_ptr<const Graph>> bodies_;
};

/// Whether the node means something only where a mesh of devices runs the graph: a collective, or a
/// piece whose random numbers depend on the rank.
bool needs_mesh(const Node& node);

/// Re-checks every rule: topological order, arity, attributes, types, aliases, bodies. Throws
/// `internal` naming the node and its scope. Run after every pass.
void verify(const Graph& graph);

/// Same nodes, attributes, types, scopes, outputs and bodies. A NaN attribute equals a NaN.
bool equal(const Graph& a, const Graph& b);

/// Text of the graph; `parse` reads it back to an equal graph.
std::string print(const Graph& graph);
/// Throws `data` with line and column.
Graph parse(std::string_view text);

}  // namespace espalier::ir
