// SPDX-License-Identifier: Apache-2.0
#include "espalier/interp/interp.h"

#include <array>

#include "espalier/base/error.h"
#include "espalier/interp/evaluation.h"

namespace espalier::interp {
namespace {

using ir::Op;

std::vector<Elements> fusion(const Call& call) {
  std::vector<DoubleTensor> operands;
  for (const DoubleTensor* operand : call.in) operands.push_back(*operand);
  std::vector<Elements> results;
  for (DoubleTensor& result : evaluate(call.graph.body(call.node), operands,
                                       {.round_f32 = call.options.round_f32, .watch = {}})) {
    results.push_back(std::move(result.data));
  }
  return results;
}

Kernel kernel(Op op) {
  static const auto table = [] {
    std::array<Kernel, ir::kOpCount> rows{};
    for (const auto& family : {elementwise_kernels(), movement_kernels(), contraction_kernels(),
                               norm_kernels(), attention_kernels()}) {
      for (const KernelRow& row : family) rows[static_cast<size_t>(row.op)] = row.kernel;
    }
    rows[static_cast<size_t>(Op::fusion)] = fusion;
    return rows;
  }();
  return table[static_cast<size_t>(op)];
}

}  // namespace

void round_elements(DType dtype, bool round_f32, Elements& elements) {
  if (dtype == DType::f64 || (dtype == DType::f32 && !round_f32)) return;
  for (double& x : elements) x = round_to(dtype, x);
}

void check_inputs(const ir::Graph& graph, const std::vector<int32_t>& ids,
                  std::span<const DoubleTensor> inputs) {
  ESPALIER_CHECK(ids.size() == inputs.size(), ErrorKind::user, "interp",
                 "graph {} takes {} inputs, got {}", graph.name(), ids.size(), inputs.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    const ir::Node& node = graph.node(ids[i]);
    ESPALIER_CHECK(node.types[0] == inputs[i].type, ErrorKind::user, "interp",
                   "input {} \"{}\" is {}, got {}", i, node.attrs.text(ir::Attr::name),
                   node.types[0].str(), inputs[i].type.str());
    ESPALIER_CHECK(static_cast<int64_t>(inputs[i].data.size()) == inputs[i].type.shape.numel(),
                   ErrorKind::user, "interp", "input {} of type {} has {} elements", i,
                   inputs[i].type.str(), inputs[i].data.size());
  }
}

std::vector<DoubleTensor> run_node(const ir::Graph& graph, const ir::Node& node, Values& values,
                                   const Options& options, const Place* place) {
  ESPALIER_CONTEXT("{} in scope \"{}\" of graph {}", name(node.op), *node.scope, graph.name());
  Call call{graph, node, {}, options, place};
  for (ir::Value v : node.inputs) call.in.push_back(&values[v]);
  const Kernel run = kernel(node.op);
  ESPALIER_CHECK(!has_trait(node.op, ir::kMesh), ErrorKind::unsupported, "interp",
                 "{} along {} needs a mesh of devices; evaluate_on_mesh runs all of them",
                 name(node.op), node.attrs.text(ir::Attr::mesh_axes));
  ESPALIER_CHECK(run != nullptr, ErrorKind::internal, "interp", "no meaning of {}", name(node.op));
  std::vector<DoubleTensor> results;
  for (Elements& elements : run(call)) {
    const ir::TensorType& type = node.types[results.size()];
    round_elements(type.dtype, options.round_f32, elements);
    results.push_back({type, std::move(elements)});
  }
  return results;
}

std::optional<shard::Region> piece_of(const Call& call) {
  const ir::Attrs& attrs = call.node.attrs;
  if (!attrs.has(ir::Attr::cut)) return std::nullopt;
  ESPALIER_CHECK(call.place != nullptr, ErrorKind::unsupported, "interp",
                 "{} of a piece cut {} needs a mesh of devices; evaluate_on_mesh runs all of them",
                 name(call.node.op), attrs.text(ir::Attr::cut));
  return shard::region_of(Shape(attrs.integers(ir::Attr::whole)),
                          shard::PartitionSpec::parse(attrs.text(ir::Attr::cut)), call.place->mesh,
                          call.place->rank);
}

DoubleTensor from_host(const HostTensor& tensor) {
  return {{tensor.dtype(), tensor.shape()}, tensor.to_doubles()};
}

HostTensor to_host(const DoubleTensor& tensor) {
  return HostTensor::from_doubles(tensor.type.dtype, tensor.type.shape, tensor.data);
}

std::vector<DoubleTensor> evaluate(const ir::Graph& graph, std::span<const DoubleTensor> inputs,
                                   const Options& options) {
  check_inputs(graph, graph.inputs(), inputs);
  Values values(graph);
  size_t next_input = 0;
  for (size_t i = 0; i < graph.nodes().size(); ++i) {
    const auto id = static_cast<int32_t>(i);
    const ir::Node& node = graph.node(id);
    values[id] = node.op == Op::input ? std::vector<DoubleTensor>{inputs[next_input++]}
                                      : run_node(graph, node, values, options, nullptr);
    if (options.watch) options.watch(id, values[id]);
    for (ir::Value v : node.inputs) values.used(v);
    values.drop_if_dead(id);
  }
  std::vector<DoubleTensor> outputs;
  for (const ir::Output& output : graph.outputs()) outputs.push_back(values[output.value]);
  return outputs;
}

}  // namespace espalier::interp
