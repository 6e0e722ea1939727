// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/find_nan.h"

#include <cstring>
#include <utility>
#include <vector>

#include "espalier/ir/tensor.h"

namespace espalier::train {
namespace {

/// Of the graph input of that name; 0 when there is none.
int64_t input_bytes(const ir::Graph& graph, const std::string& name) {
  for (const int32_t id : graph.inputs()) {
    const ir::Node& node = graph.node(id);
    if (node.attrs.text(ir::Attr::name) != name) continue;
    return node.types[0].shape.numel() * size_of(node.types[0].dtype);
  }
  return 0;
}

}  // namespace

StateSnapshot snapshot(Step& step) {
  StateSnapshot copies;
  for (const StateSlot& slot : step.slots()) copies[slot.name] = step.state(slot.name).clone();
  return copies;
}

std::string first_nan(Step& step, const StateSnapshot& before,
                      const std::map<std::string, const void*>& batch) {
  const ir::Graph& graph = step.graph();
  ir::Builder builder("find_nan");
  ir::Rewriter rewriter(graph, builder);
  std::vector<std::pair<std::string, std::string>> counts;  // output, description
  for (int32_t id = 0; id < static_cast<int32_t>(graph.nodes().size()); ++id) {
    rewriter.copy(id);
    const ir::Node& node = graph.node(id);
    for (int32_t result = 0; result < static_cast<int32_t>(node.types.size()); ++result) {
      const ir::TensorType& type = node.types[static_cast<size_t>(result)];
      if (!is_float(type.dtype) || type.shape.numel() == 0) continue;
      Tensor x(builder, rewriter[{id, result}]);
      if (x.dtype() != DType::f32) x = convert(x, DType::f32);
      Tensor count = convert(compare(ir::Op::ne, x, x), DType::f32);
      std::vector<int64_t> axes;
      for (int64_t axis = 0; axis < x.rank(); ++axis) axes.push_back(axis);
      if (!axes.empty()) count = reduce_sum(count, axes);
      const std::string output = fmt::format("nan.{}.{}", id, result);
      builder.output(output, count.value());
      std::string what = fmt::format("{} {}", ir::name(node.op), type.str());
      if (node.op == ir::Op::input) what += " \"" + node.attrs.text(ir::Attr::name) + "\"";
      if (!node.scope->empty()) what += " at " + *node.scope;
      counts.emplace_back(output, std::move(what));
    }
  }

  CompileOptions options = step.options();
  options.fuse = false;
  const auto executable = compile(builder.finish(), options);
  for (const auto& [name, values] : before) {
    std::memcpy(executable->state(name).data(), values.data(), static_cast<size_t>(values.bytes()));
  }
  for (int64_t part = 0; part < step.parts(); ++part) {
    for (const auto& [name, data] : batch) {
      const int64_t offset = part * input_bytes(graph, name);
      executable->set_input(executable->input_index(name),
                            static_cast<const std::byte*>(data) + offset);
    }
    if (step.parts() > 1) executable->set_input(executable->input_index("part"), &part);
    executable->run();
    for (const auto& [output, what] : counts) {
      if (executable->output(output).get(0) != 0.0) return what;
    }
  }
  return {};
}

}  // namespace espalier::train
