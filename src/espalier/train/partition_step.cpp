// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/partition_step.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "espalier/base/error.h"
#include "espalier/base/text.h"
#include "espalier/train/byte_lm_steps.h"
#include "espalier/train/module_opt.h"
#include "espalier/train/plan_job.h"

namespace espalier::train {
namespace {

using ir::Attr;

/// The parameter whose moment the state `name` is, such as "adam.m.PATH", or null.
const nn::Param* parameter_of(const std::string& name, const ir::TensorType& type,
                              const std::map<std::string, const nn::Param*>& by_path) {
  for (size_t dot = name.find('.'); dot != std::string::npos; dot = name.find('.', dot + 1)) {
    const auto found = by_path.find(name.substr(dot + 1));
    if (found != by_path.end() && found->second->shape == type.shape) return found->second;
  }
  return nullptr;
}

/// The partitioned graph with a summary in comments.
std::string text_of(const passes::Partitioned& made, const PartitionChoice& choice) {
  std::string text = fmt::format("# every device of {}\n", choice.mesh.str());
  for (const passes::Communication& c : passes::communication(made.graph)) {
    text += fmt::format("# {} over {}, {}: {} of {}, {} sent\n", shard::name(c.kind), c.axes,
                        c.what, c.count, human_bytes(std::llround(c.bytes)),
                        human_bytes(std::llround(c.sent_bytes)));
  }
  for (const std::string& note : made.notes) text += "# " + note + "\n";
  return text + ir::print(made.graph);
}

/// Axes of the mesh that deal out samples.
std::vector<std::string> sample_axes(const PartitionChoice& choice) {
  const std::vector<std::string> cut_work = model_axes(choice.plans);
  std::vector<std::string> axes;
  for (const shard::MeshAxis& axis : choice.mesh.axes()) {
    if (std::count(cut_work.begin(), cut_work.end(), axis.name) == 0) axes.push_back(axis.name);
  }
  return axes;
}

template <typename M>
std::string dump_partitioned(M model, const ir::Graph& step, const PartitionChoice& choice,
                             std::vector<std::string> local_indices) {
  ESPALIER_CHECK(choice.mesh.devices() > 1, ErrorKind::user, "dump",
                 "stage partition needs a mesh of several devices, such as --mesh data=2,model=2");
  const auto placed =
      nn::apply_plans(std::move(model), choice.mesh, nn::plans_of(choice.plans)).model;
  passes::PartitionOptions options =
      partition_options(step, abstract_params(placed), choice.mesh, sample_axes(choice));
  options.local_indices = std::move(local_indices);
  return text_of(passes::partition(step, options), choice);
}

}  // namespace

passes::PartitionOptions partition_options(
    const ir::Graph& graph, const std::vector<std::pair<std::string, nn::Param>>& params,
    const shard::Mesh& mesh, const std::vector<std::string>& sample_axes) {
  std::map<std::string, const nn::Param*> by_path;
  for (const auto& [path, param] : params) by_path.emplace(path, &param);
  passes::PartitionOptions options{.mesh = mesh};
  for (int32_t id : graph.inputs()) {
    const ir::Node& node = graph.node(id);
    const std::string& name = node.attrs.text(Attr::name);
    if (node.attrs.text(Attr::role) == "batch") {
      if (node.types[0].shape.rank() == 0) continue;
      shard::PartitionSpec spec;
      for (const std::string& axis : sample_axes) spec.cut(0, axis);
      ESPALIER_CONTEXT("{} {}", name, node.types[0].str());
      spec.local_shape(node.types[0].shape, mesh);
      options.inputs.emplace(name, std::move(spec));
    } else if (const nn::Param* p = parameter_of(name, node.types[0], by_path)) {
      options.inputs.emplace(name, p->placement.spec);
    }
  }
  return options;
}

std::string dump_partitioned_byte_lm(const ByteLmOptions& options, const PartitionChoice& choice) {
  return dump_partitioned(models::ByteLm(options.model), byte_lm_train_step(options).graph(),
                          choice, {});
}

std::string dump_partitioned_bert(const BertDumpOptions& options, const PartitionChoice& choice) {
  return dump_partitioned(models::BertForMaskedLm(bert_config_of(options.model)),
                          bert_dump_step(options).graph(), choice, {"batch.label_rows"});
}

}  // namespace espalier::train
