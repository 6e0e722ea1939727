// SPDX-License-Identifier: Apache-2.0
#include "espalier/ir/builder.h"

#include <algorithm>

#include "espalier/base/error.h"
#include "espalier/base/rng.h"

namespace espalier::ir {

Value Builder::add(Op op, std::vector<Value> inputs, Attrs attrs) {
  std::vector<TensorType> types;
  types.reserve(inputs.size());
  for (Value v : inputs) types.push_back(type(v));
  if (scope_->empty()) {
    types = infer_types({op, types, attrs});
  } else {
    ESPALIER_CONTEXT("{}", *scope_);
    types = infer_types({op, types, attrs});
  }
  return add_typed(op, std::move(inputs), std::move(attrs), std::move(types));
}

Value Builder::add_typed(Op op, std::vector<Value> inputs, Attrs attrs,
                         SharedList<TensorType> types) {
  const auto id = static_cast<int32_t>(graph_.nodes_.size());
  for (Value v : inputs) ESPALIER_ASSERT(v.defined() && v.node < id);
  graph_.nodes_.push_back({op, std::move(inputs), std::move(attrs), std::move(types), scope_});
  return {id, 0};
}

Value Builder::input(std::string name, TensorType type, std::string role) {
  return add_typed(Op::input, {}, {{Attr::name, std::move(name)}, {Attr::role, std::move(role)}},
                   {std::move(type)});
}

Value Builder::constant(double value, DType dtype, Shape shape) {
  return add(Op::constant, {},
             {{Attr::value, value}, {Attr::dtype, dtype}, {Attr::shape, shape.dims()}});
}

void Builder::output(std::string name, Value value, Value alias) {
  if (alias.defined()) {
    ESPALIER_CHECK(node(alias).op == Op::input && type(alias) == type(value), ErrorKind::internal,
                   "ir", "output {} of type {} cannot replace {} of type {}", name,
                   type(value).str(), espalier::ir::name(node(alias).op), type(alias).str());
  }
  graph_.outputs_.push_back({std::move(name), value, alias.node});
}

int64_t Builder::add_body(std::shared_ptr<const Graph> body) {
  graph_.bodies_.push_back(std::move(body));
  return static_cast<int64_t>(graph_.bodies_.size()) - 1;
}

Builder::Scope::Scope(Builder& builder, std::string_view part)
    : builder_(builder), outer_(builder.scope_) {
  std::string inner = *outer_;
  if (!inner.empty() && !part.empty()) inner += '.';
  builder_.scope_ = inner += part;
}

Builder::Scope::~Scope() { builder_.scope_ = std::move(outer_); }

int64_t Builder::random_stream() {
  uint64_t hash = 0xCBF29CE484222325ull;  // FNV-1a of the scope
  for (char c : *scope_) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3ull;
  const int64_t ordinal = streams_[scope_]++;
  // 53 bits, so that the id is exact wherever numbers are doubles.
  return static_cast<int64_t>(mix64(hash ^ mix64(static_cast<uint64_t>(ordinal))) >> 11);
}

Graph Builder::finish() {
  Graph done = std::move(graph_);
  graph_ = Graph();
  streams_.clear();
  return done;
}

Rewriter::Rewriter(const Graph& source, Builder& out)
    : source_(source), out_(out), body_map_(source.bodies().size(), -1) {
  first_.reserve(source.nodes().size());
  size_t results = 0;
  for (const Node& node : source.nodes()) {
    first_.push_back(results);
    results += node.types.size();
  }
  map_.resize(results);
}

bool Rewriter::mapped(Value old) const { return map_[place(old)].defined(); }

Value Rewriter::operator[](Value old) const {
  const Value now = map_[place(old)];
  ESPALIER_CHECK(now.defined(), ErrorKind::internal, "rewrite", "%{}.{} ({}) is used before it is",
                 old.node, old.index, name(source_.node(old).op));
  return now;
}

void Rewriter::map(Value old, Value now) { map_[place(old)] = now; }

Value Rewriter::copy(int32_t id, Attrs attrs) {
  const Node& node = source_.node(id);
  std::vector<Value> inputs;
  inputs.reserve(node.inputs.size());
  for (Value v : node.inputs) inputs.push_back((*this)[v]);
  if (attrs.has(Attr::body)) {
    int64_t& body = body_map_[static_cast<size_t>(attrs.integer(Attr::body))];
    if (body < 0)
      body = out_.add_body(source_.bodies()[static_cast<size_t>(attrs.integer(Attr::body))]);
    attrs.set(Attr::body, body);
  }
  out_.set_scope(node.scope);
  // The same op with the same attributes over operands of the same types has the same results: no
  // rule needs to say so again.
  const auto same_type = [&](Value old, Value now) { return source_.type(old) == out_.type(now); };
  const bool typed =
      node.op == Op::input || node.op == Op::fusion ||
      (std::equal(node.inputs.begin(), node.inputs.end(), inputs.begin(), same_type) &&
       attrs == node.attrs);
  const Value now = typed ? out_.add_typed(node.op, std::move(inputs), std::move(attrs), node.types)
                          : out_.add(node.op, std::move(inputs), std::move(attrs));
  for (size_t i = 0; i < node.types.size(); ++i) {
    map({id, static_cast<int32_t>(i)}, {now.node, static_cast<int32_t>(i)});
  }
  return now;
}

void Rewriter::copy_outputs() {
  for (const Output& output : source_.outputs()) {
    out_.output(output.name, (*this)[output.value],
                output.alias >= 0 ? (*this)[Value{output.alias, 0}] : Value{});
  }
}

}  // namespace espalier::ir
