// SPDX-License-Identifier: Apache-2.0
#include "espalier/ir/graph.h"

#include "espalier/base/error.h"

namespace espalier::ir {

std::vector<int32_t> Graph::inputs() const {
  std::vector<int32_t> ids;
  for (size_t i = 0; i < nodes_.size(); ++i) {
    if (nodes_[i].op == Op::input) ids.push_back(static_cast<int32_t>(i));
  }
  return ids;
}

const Graph& Graph::body(const Node& fusion) const {
  return *bodies_[static_cast<size_t>(fusion.attrs.integer(Attr::body))];
}

std::vector<int32_t> Graph::use_counts() const {
  std::vector<int32_t> counts(nodes_.size(), 0);
  for (const Node& node : nodes_) {
    for (Value v : node.inputs) ++counts[static_cast<size_t>(v.node)];
  }
  for (const Output& output : outputs_) ++counts[static_cast<size_t>(output.value.node)];
  return counts;
}

bool needs_mesh(const Node& node) { return has_trait(node.op, kMesh) || node.attrs.has(Attr::cut); }

namespace {
/// `types` is room for the types of the operands, kept from node to node for its memory.
void verify_node(const Graph& graph, int32_t id, std::vector<TensorType>& types) {
  const Node& node = graph.node(id);
  types.resize(node.inputs.size());
  for (size_t i = 0; i < types.size(); ++i) {
    const Value v = node.inputs[i];
    ESPALIER_CHECK(v.node >= 0 && v.node < id, ErrorKind::internal, "verify",
                   "operand %{} does not come before its use", v.node);
    ESPALIER_CHECK(v.index >= 0 && v.index < static_cast<int32_t>(graph.node(v).types.size()),
                   ErrorKind::internal, "verify", "operand %{} has no result {}", v.node, v.index);
    types[i] = graph.type(v);
  }
  if (node.op == Op::input) {
    check_use({node.op, types, node.attrs});
    ESPALIER_CHECK(node.types.size() == 1, ErrorKind::internal, "verify",
                   "an input has one result");
    return;
  }
  if (node.op == Op::fusion) {
    check_use({node.op, types, node.attrs});
    const int64_t index = node.attrs.integer(Attr::body);
    ESPALIER_CHECK(index >= 0 && index < static_cast<int64_t>(graph.bodies().size()),
                   ErrorKind::internal, "verify", "fusion body {} does not exist", index);
    const Graph& body = graph.body(node);
    const std::vector<int32_t> inputs = body.inputs();
    ESPALIER_CHECK(inputs.size() == types.size() && body.outputs().size() == node.types.size(),
                   ErrorKind::internal, "verify",
                   "fusion with {} operands and {} results has a body with {} and {}", types.size(),
                   node.types.size(), inputs.size(), body.outputs().size());
    for (size_t i = 0; i < inputs.size(); ++i) {
      const TensorType& want = body.node(inputs[i]).types[0];
      ESPALIER_CHECK(want == types[i], ErrorKind::internal, "verify",
                     "fusion operand {} is {}, the body takes {}", i, types[i].str(), want.str());
    }
    for (size_t i = 0; i < node.types.size(); ++i) {
      const TensorType& made = body.type(body.outputs()[i].value);
      ESPALIER_CHECK(made == node.types[i], ErrorKind::internal, "verify",
                     "fusion result {} is {}, the body makes {}", i, node.types[i].str(),
                     made.str());
    }
    verify(body);
    return;
  }
  const std::vector<TensorType> inferred = infer_types({node.op, types, node.attrs});
  ESPALIER_CHECK(inferred == *node.types, ErrorKind::internal, "verify",
                 "{} has result {}, its rule says {}", name(node.op), node.types.at(0).str(),
                 inferred.at(0).str());
}
}  // namespace

void verify(const Graph& graph) {
  std::vector<TensorType> types;
  for (size_t i = 0; i < graph.nodes().size(); ++i) {
    const auto id = static_cast<int32_t>(i);
    ESPALIER_CONTEXT("%{} = {} in graph {}, scope \"{}\"", id, name(graph.node(id).op),
                     graph.name(), *graph.node(id).scope);
    verify_node(graph, id, types);
  }
  for (const Output& output : graph.outputs()) {
    ESPALIER_CHECK(
        output.value.node >= 0 && output.value.node < static_cast<int32_t>(graph.nodes().size()),
        ErrorKind::internal, "verify", "output {} has no value", output.name);
    if (output.alias < 0) continue;
    ESPALIER_CHECK(graph.node(output.alias).op == Op::input &&
                       graph.node(output.alias).types[0] == graph.type(output.value),
                   ErrorKind::internal, "verify", "output {} replaces %{} of another type",
                   output.name, output.alias);
  }
}

}  // namespace espalier::ir
