// SPDX-License-Identifier: Apache-2.0
// Builds a graph node by node; every node is checked and typed as it is added.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/base/shared.h"
#include "espalier/ir/graph.h"

namespace espalier::ir {

class Builder {
 public:
  explicit Builder(std::string name = "graph") { graph_.name_ = std::move(name); }
  Builder(const Builder&) = delete;
  Builder& operator=(const Builder&) = delete;

  /// Adds a node and returns its first result; throws `user` when a rule of the op is broken.
  Value add(Op op, std::vector<Value> inputs, Attrs attrs = {});
  /// Like add for ops whose result types no rule derives (input, fusion).
  Value add_typed(Op op, std::vector<Value> inputs, Attrs attrs, SharedList<TensorType> types);
  /// role: "batch" (set at every step), "parameter", "state" (kept), "scalar" (set once).
  Value input(std::string name, TensorType type, std::string role);
  /// Every element has this value.
  Value constant(double value, DType dtype, Shape shape = {});
  void output(std::string name, Value value, Value alias = {});
  /// Registers a body for a fusion node and returns its index.
  int64_t add_body(std::shared_ptr<const Graph> body);

  const TensorType& type(Value value) const { return graph_.type(value); }
  const Node& node(Value value) const { return graph_.node(value); }
  /// The graph built so far, for passes that extend one.
  const Graph& graph() const { return graph_; }

  /// Scopes nest: "layers.0" then "attention" gives "layers.0.attention".
  class Scope {
   public:
    Scope(Builder& builder, std::string_view part);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Builder& builder_;
    Shared<std::string> outer_;
  };
  const Shared<std::string>& scope() const { return scope_; }
  /// For passes that copy nodes: the scope is taken over unchanged.
  void set_scope(Shared<std::string> scope) { scope_ = std::move(scope); }

  /// Id of a random stream: a hash of the scope and of how many streams this scope has had.
  /// Fixed at trace time, so recomputed, fused or sharded copies draw the same numbers.
  int64_t random_stream();

  /// Ends building. The builder is empty afterwards.
  Graph finish();

 private:
  Graph graph_;
  Shared<std::string> scope_;
  std::map<std::string, int64_t> streams_;
};

/// Copies nodes of one graph into a builder, mapping operands: the skeleton of a pass.
class Rewriter {
 public:
  Rewriter(const Graph& source, Builder& out);
  /// The new value of an old one; throws `internal` when it has none yet.
  Value operator[](Value old) const;
  bool mapped(Value old) const;
  void map(Value old, Value now);
  /// Copies node `id` (operands must be mapped), maps all its results, returns the first.
  Value copy(int32_t id) { return copy(id, source_.node(id).attrs); }
  Value copy(int32_t id, Attrs attrs);
  /// Copies all outputs; aliases follow their inputs.
  void copy_outputs();
  const Graph& source() const { return source_; }
  Builder& out() { return out_; }

 private:
  size_t place(Value old) const {
    return first_[static_cast<size_t>(old.node)] + static_cast<size_t>(old.index);
  }

  const Graph& source_;
  Builder& out_;
  std::vector<size_t> first_;  // place of each node's first result in map_
  std::vector<Value> map_;
  std::vector<int64_t> body_map_;
};

}  // namespace espalier::ir
