// SPDX-License-Identifier: Apache-2.0
#include "espalier/passes/partition.h"

#include <algorithm>
#include <map>

#include "espalier/base/error.h"
#include "espalier/passes/partition_placed.h"
#include "espalier/passes/pass.h"

namespace espalier::passes {
namespace part {
namespace {

using ir::Attr;
using ir::Node;
using ir::Op;
using ir::Value;
using shard::PartitionSpec;

class Partitioner {
 public:
  Partitioner(const ir::Graph& graph, const PartitionOptions& options)
      : graph_(graph),
        options_(options),
        inputs_(input_specs(graph, options)),
        facts_(value_facts(graph, options, inputs_)),
        values_(graph, options, facts_),
        out_(values_.out()) {}

  Partitioned run() {
    size_t next_input = 0;
    for (size_t i = 0; i < graph_.nodes().size(); ++i) {
      id_ = static_cast<int32_t>(i);
      if (id_ == facts_.first_backward) values_.begin_backward();
      const Node& node = graph_.node(id_);
      out_.set_scope(node.scope);
      ESPALIER_CONTEXT("%{} = {} in scope \"{}\"", id_, name(node.op), *node.scope);
      if (node.op == Op::input) {
        place_input(node, inputs_[next_input++]);
      } else {
        visit(node);
      }
    }
    return finish();
  }

 private:
  void place_input(const Node& node, const PartitionSpec& spec) {
    Held& h = values_.held({id_, 0});
    h.layout.spec = spec;
    h.now = out_.add_typed(
        Op::input, {}, node.attrs,
        {{node.types[0].dtype, spec.local_shape(node.types[0].shape, options_.mesh)}});
  }

  /// The number of pieces that indices stay inside of, where they are promised to.
  int64_t local_pieces(const Node& node) {
    if (node.op != Op::gather && node.op != Op::scatter_add) return 1;
    const Value indices = node.inputs[node.op == Op::gather ? 1 : 0];
    if (!facts_.local_index[static_cast<size_t>(indices.node)]) return 1;
    const PartitionSpec spec = values_.place_of(indices);
    const Value like = node.inputs[node.op == Op::gather ? 0 : 1];
    const PartitionSpec place = values_.place_of(like);
    const bool alike = axes_of_dim(place, 0) == axes_of_dim(spec, 0);
    if (!alike || place.groups(0) > 1 || spec.groups(0) > 1) return 1;
    const int64_t pieces = spec.pieces(0, options_.mesh);
    const int64_t rows =
        node.op == Op::gather ? values_.shape(like)[0] : node.attrs.integer(Attr::rows);
    return rows % pieces == 0 ? pieces : 1;
  }

  bool is_lazy(const Node& node, const PartitionRow& row) {
    if (row.lazy) return true;
    return has_trait(node.op, ir::kElementwise) &&
           std::all_of(node.inputs.begin(), node.inputs.end(),
                       [&](Value v) { return values_.held(v).kind == Held::Kind::lazy; });
  }

  void visit(const Node& node) {
    const PartitionRow& row = partition_row(node.op);
    if (row.open == OpenSum::join && is_float(node.types[0].dtype) && values_.join(id_)) return;
    const OpFactors factors = row.factors({graph_, node, local_pieces(node)});
    Assigner assigner(factors, options_.mesh, row.ranges);

    const bool zero_pad = node.op != Op::pad || node.attrs.real(Attr::value) == 0.0;
    const bool pass = row.open == OpenSum::pass && zero_pad && values_.is_open(node.inputs[0]) &&
                      values_.used_once(node.inputs[0]);
    if (pass) {
      for (const std::string& axis : values_.held(node.inputs[0]).layout.open) assigner.block(axis);
    }
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      const Value v = node.inputs[i];
      values_.offer(assigner, factors.inputs[i], v,
                    pass ? values_.held(v).layout.spec : values_.place_of(v));
    }
    if (is_lazy(node, row)) {
      Held& h = values_.held({id_, 0});
      h.kind = Held::Kind::lazy;
      h.layout.spec = spec_of(factors.results[0], assigner.decide());
      return;
    }
    values_.offer_wish(assigner, factors.results[0], {id_, 0});
    const Assignment assignment = assigner.decide();
    std::vector<Value> in;
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      const Value v = node.inputs[i];
      const PartitionSpec target = spec_of(factors.inputs[i], assignment);
      if (pass) {
        values_.mover().set_label(values_.label(v));
        in.push_back(
            values_.mover().move(values_.held(v).now, values_.held(v).layout.spec, target));
      } else {
        note_if_gathered(node, i, target);
        in.push_back(values_.get(v, target));
      }
    }
    Layout layout;
    layout.open = axes_of_kind(factors, assignment, FactorKind::sum);
    if (pass) {
      const AxisList& open = values_.held(node.inputs[0]).layout.open;
      layout.open.insert(layout.open.end(), open.begin(), open.end());
    }
    sort_axes(layout.open);
    const std::vector<Value> made = values_.emit(node, std::move(in), factors, assignment);
    for (size_t r = 0; r < made.size(); ++r) {
      layout.spec = spec_of(factors.results[r], assignment);
      Held& h = values_.held({id_, static_cast<int32_t>(r)});
      h.now = made[r];
      h.layout = layout;
    }
    if (row.recut) cut_again(node);
    keep_rows_apart(node);
  }

  /// In the order of the mesh, so that equal sets are equal lists.
  void sort_axes(AxisList& axes) const {
    AxisList sorted;
    for (const shard::MeshAxis& axis : options_.mesh.axes()) {
      if (std::count(axes.begin(), axes.end(), axis.name) > 0) sorted.push_back(axis.name);
    }
    axes = std::move(sorted);
  }

  /// Rows looked up in pieces that the indices do not follow are parts of a sum. It is scattered to
  /// where the indices are.
  void keep_rows_apart(const Node& node) {
    if (node.op == Op::gather) values_.held({id_, 0}).scatter_to = values_.place_of(node.inputs[1]);
  }

  /// slice, pad, concat of a dimension that was cut: the result is cut the same way where it can.
  void cut_again(const Node& node) {
    if (values_.source({id_, 0}) != Source::samples) return;
    Held& h = values_.held({id_, 0});
    PartitionSpec spec = h.layout.spec;
    const PartitionSpec before = values_.place_of(node.inputs[0]);
    for (const PartitionSpec::Cut& c : before.cuts()) {
      const int64_t left = node.types[0].shape[c.dim] / spec.pieces(c.dim, options_.mesh);
      const bool taken = std::count(h.layout.open.begin(), h.layout.open.end(), c.axis) > 0;
      const bool used = taken || spec.dim_of(c.axis) >= 0;
      const bool whole = c.groups == 1 && spec.groups(c.dim) == 1;  // no groups of rows to keep
      if (used || !whole || left % options_.mesh.size(c.axis) != 0) continue;
      spec.cut(c.dim, c.axis);
    }
    h.now = values_.mover().move(h.now, h.layout.spec, spec);
    h.layout.spec = spec;
  }

  void note_if_gathered(const Node& node, size_t operand, const PartitionSpec& target) {
    const Value v = node.inputs[operand];
    if (values_.source(v) != Source::samples || values_.held(v).kind == Held::Kind::lazy) return;
    const PartitionSpec place = values_.place_of(v);
    AxisList lost;
    for (const PartitionSpec::Cut& c : place.cuts()) {
      const bool kept = target.dim_of(c.axis) == c.dim && target.groups(c.dim) == c.groups;
      if (!kept) lost.push_back(c.axis);
    }
    if (lost.empty()) return;
    std::string note =
        fmt::format("{} in scope \"{}\" puts operand {}, {} cut {}, together over {}",
                    name(node.op), *node.scope, operand, graph_.type(v).str(),
                    place.str(values_.shape(v).rank()), Mover::joint(lost));
    // Slices of one value are one note.
    if (notes_.empty() || notes_.back() != note) notes_.push_back(std::move(note));
  }

  Partitioned finish() {
    Partitioned result;
    result.inputs = inputs_;
    result.notes = std::move(notes_);
    std::vector<Value> values;
    for (const ir::Output& output : graph_.outputs()) {
      out_.set_scope(graph_.node(output.value).scope);
      PartitionSpec spec = values_.place_of(output.value);
      Value alias;
      if (output.alias >= 0) {
        spec = values_.held({output.alias, 0}).layout.spec;
        alias = values_.held({output.alias, 0}).now;
      }
      out_.output(output.name, values_.get(output.value, spec), alias);
      result.outputs.push_back(std::move(spec));
    }
    result.graph = dce(cse(out_.finish(), {}), {});
    ir::verify(result.graph);
    return result;
  }

  const ir::Graph& graph_;
  const PartitionOptions& options_;
  std::vector<PartitionSpec> inputs_;
  ValueFacts facts_;
  PlacedValues values_;
  ir::Builder& out_;
  std::vector<std::string> notes_;
  int32_t id_ = 0;  // the node that is visited
};

}  // namespace
}  // namespace part

Partitioned partition(const ir::Graph& graph, const PartitionOptions& options) {
  static const std::vector<Pass> kBefore{{"decompose", decompose, true},
                                         {"erase_stops", erase_stops, true},
                                         {"fold", fold, false},
                                         {"cse", cse, false},
                                         {"dce", dce, false}};
  const ir::Graph clean = run_passes(kBefore, graph, {});
  ESPALIER_CONTEXT("partition over {}", options.mesh.str());
  return part::Partitioner(clean, options).run();
}

}  // namespace espalier::passes
