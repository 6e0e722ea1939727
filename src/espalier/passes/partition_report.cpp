// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <optional>

#include "espalier/passes/partition.h"
#include "espalier/passes/partition_values.h"

namespace espalier::passes {
namespace {

using ir::Attr;
using ir::Op;
using shard::CollectiveKind;

std::optional<CollectiveKind> kind_of(Op op) {
  switch (op) {
    case Op::all_reduce:
      return CollectiveKind::all_reduce;
    case Op::all_gather:
      return CollectiveKind::all_gather;
    case Op::reduce_scatter:
      return CollectiveKind::reduce_scatter;
    default:
      return std::nullopt;
  }
}

}  // namespace

std::vector<Communication> communication(const ir::Graph& graph) {
  const int32_t first_backward = part::first_backward_node(graph);
  std::vector<Communication> rows;
  for (size_t i = 0; i < graph.nodes().size(); ++i) {
    const ir::Node& node = graph.nodes()[i];
    const auto kind = kind_of(node.op);
    if (!kind) continue;
    std::string what = node.attrs.text_or(Attr::name, "activations");
    if (what == "parameters" || what == "activations") {
      what += static_cast<int32_t>(i) < first_backward ? ", forward" : ", backward";
    }
    const std::string& axes = node.attrs.text(Attr::mesh_axes);
    auto row = std::find_if(rows.begin(), rows.end(), [&](const Communication& c) {
      return c.kind == *kind && c.axes == axes && c.what == what;
    });
    if (row == rows.end()) row = rows.insert(row, {.kind = *kind, .axes = axes, .what = what});
    // Gathers count what they make, the others what they take.
    const ir::TensorType& whole =
        *kind == CollectiveKind::all_gather ? node.types[0] : graph.type(node.inputs[0]);
    const auto bytes = static_cast<double>(whole.shape.numel() * size_of(whole.dtype));
    const auto n = static_cast<double>(node.attrs.integer(Attr::devices));
    ++row->count;
    row->bytes += bytes;
    row->sent_bytes += (*kind == CollectiveKind::all_reduce ? 2.0 : 1.0) * (n - 1.0) / n * bytes;
  }
  return rows;
}

}  // namespace espalier::passes
