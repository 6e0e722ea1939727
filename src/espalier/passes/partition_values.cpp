// SPDX-License-Identifier: Apache-2.0
#include "espalier/passes/partition_values.h"

#include <algorithm>

#include "espalier/base/error.h"
#include "espalier/base/text.h"

namespace espalier::passes::part {
namespace {

using ir::Attr;
using ir::Op;
using shard::PartitionSpec;

std::vector<Source> sources(const ir::Graph& graph) {
  std::vector<Source> found;
  for (const ir::Node& node : graph.nodes()) {
    Source source = Source::constants;
    if (node.op == Op::input) {
      source = node.attrs.text(Attr::role) == "batch" ? Source::samples : Source::parameters;
    }
    for (ir::Value v : node.inputs) {
      source = std::max(source, found[static_cast<size_t>(v.node)]);
    }
    found.push_back(source);
  }
  return found;
}

void check_names(const ir::Graph& graph, const PartitionOptions& options) {
  std::vector<std::string> names;
  for (int32_t id : graph.inputs()) names.push_back(graph.node(id).attrs.text(Attr::name));
  const auto check = [&](const std::string& name) {
    ESPALIER_CHECK(std::find(names.begin(), names.end(), name) != names.end(), ErrorKind::user,
                   "partition", "the graph {} has no input {}{}", graph.name(), name,
                   nearest_hint(name, names));
  };
  for (const auto& [name, spec] : options.inputs) check(name);
  for (const std::string& name : options.local_indices) check(name);
}

}  // namespace

std::vector<PartitionSpec> input_specs(const ir::Graph& graph, const PartitionOptions& options) {
  check_names(graph, options);
  std::vector<PartitionSpec> specs;
  for (int32_t id : graph.inputs()) {
    const ir::Node& node = graph.node(id);
    PartitionSpec& spec = specs.emplace_back();
    const auto given = options.inputs.find(node.attrs.text(Attr::name));
    if (given == options.inputs.end()) continue;
    ESPALIER_CONTEXT("input {} {}", given->first, node.types[0].str());
    given->second.local_shape(node.types[0].shape, options.mesh);
    for (const PartitionSpec::Cut& c : given->second.cuts()) {
      if (options.mesh.size(c.axis) > 1) spec.cut(c.dim, c.axis, c.groups);
    }
  }
  return specs;
}

int32_t first_backward_node(const ir::Graph& graph) {
  for (const ir::Output& output : graph.outputs()) {
    if (output.name == "loss") return output.value.node + 1;
  }
  return static_cast<int32_t>(graph.nodes().size());
}

ValueFacts value_facts(const ir::Graph& graph, const PartitionOptions& options,
                       const std::vector<PartitionSpec>& inputs) {
  ValueFacts facts;
  const size_t count = graph.nodes().size();
  facts.source = sources(graph);
  facts.uses = graph.use_counts();
  facts.first_backward = first_backward_node(graph);
  facts.wish.resize(count);
  facts.local_index.resize(count, false);

  std::vector<const PartitionSpec*> spec_of_node(count, nullptr);
  size_t next = 0;
  for (int32_t id : graph.inputs()) {
    const PartitionSpec& spec = inputs[next++];
    const ir::Node& node = graph.node(id);
    spec_of_node[static_cast<size_t>(id)] = &spec;
    const auto& local = options.local_indices;
    facts.local_index[static_cast<size_t>(id)] =
        std::find(local.begin(), local.end(), node.attrs.text(Attr::name)) != local.end();
    if (node.attrs.text(Attr::role) != "batch") continue;
    for (const PartitionSpec::Cut& c : spec.cuts()) facts.sample_axes.insert(c.axis);
  }
  for (size_t i = 0; i < count; ++i) {
    const ir::Node& node = graph.nodes()[i];
    if (node.op == Op::convert) {
      facts.local_index[i] = facts.local_index[static_cast<size_t>(node.inputs[0].node)];
    }
  }
  for (const ir::Output& output : graph.outputs()) {
    if (output.alias < 0) continue;
    facts.wish[static_cast<size_t>(output.value.node)] =
        *spec_of_node[static_cast<size_t>(output.alias)];
  }
  for (size_t i = count; i-- > 0;) {
    const ir::Node& node = graph.nodes()[i];
    if (!facts.wish[i] || !has_trait(node.op, ir::kElementwise)) continue;
    for (ir::Value v : node.inputs) {
      auto& wish = facts.wish[static_cast<size_t>(v.node)];
      if (!wish) wish = facts.wish[i];
    }
  }
  return facts;
}

}  // namespace espalier::passes::part
