// SPDX-License-Identifier: Apache-2.0
#include "espalier/passes/legalize.h"

#include <algorithm>

#include "espalier/ir/builder.h"
#include "espalier/ir/tensor.h"

namespace espalier::passes {
namespace {

using ir::Attr;
using ir::Op;

/// Loops accumulate in f32 or f64.
bool is_narrow(DType dtype) { return dtype == DType::bf16 || dtype == DType::f16; }

Tensor last_axis_max(Tensor x, const std::vector<int64_t>& axes, const Shape& result) {
  std::vector<int64_t> permutation;
  int64_t rows = 1;
  for (int64_t d = 0; d < x.rank(); ++d) {
    if (std::count(axes.begin(), axes.end(), d) > 0) continue;
    permutation.push_back(d);
    rows *= x.shape()[d];
  }
  permutation.insert(permutation.end(), axes.begin(), axes.end());
  if (!std::is_sorted(permutation.begin(), permutation.end())) x = transpose(x, permutation);
  const int64_t columns = rows == 0 ? 1 : x.shape().numel() / rows;
  return reshape(reduce_max(reshape(x, {rows, columns}), {1}), result);
}

}  // namespace

ir::Graph legalize(const ir::Graph& graph) {
  ir::Builder out(graph.name());
  ir::Rewriter rewriter(graph, out);
  for (size_t i = 0; i < graph.nodes().size(); ++i) {
    const auto id = static_cast<int32_t>(i);
    const ir::Node& node = graph.nodes()[i];
    if (node.op == Op::reduce_sum && is_narrow(node.types[0].dtype)) {
      out.set_scope(node.scope);
      const Tensor x(out, rewriter[node.inputs[0]]);
      const Tensor sum = reduce_sum(convert(x, DType::f32), node.attrs.integers(Attr::axes));
      rewriter.map({id, 0}, convert(sum, node.types[0].dtype).value());
      continue;
    }
    const bool maximum = node.op == Op::reduce_max;
    const int64_t rank = maximum ? graph.type(node.inputs[0]).shape.rank() : 0;
    if (!maximum ||
        (rank >= 2 && node.attrs.integers(Attr::axes) == std::vector<int64_t>{rank - 1})) {
      rewriter.copy(id);
      continue;
    }
    out.set_scope(node.scope);
    const Tensor x(out, rewriter[node.inputs[0]]);
    rewriter.map({id, 0},
                 last_axis_max(x, node.attrs.integers(Attr::axes), node.types[0].shape).value());
  }
  rewriter.copy_outputs();
  return out.finish();
}

}  // namespace espalier::passes
