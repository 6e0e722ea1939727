// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <memory>

#include "espalier/base/error.h"
#include "espalier/ir/builder.h"
#include "espalier/plan/program.h"
#include "espalier/plan/updates.h"

namespace espalier::plan {
namespace {

using ir::Attr;
using ir::Node;
using ir::Op;
using ir::StridedView;
using ir::Value;

class ProgramBuilder {
 public:
  explicit ProgramBuilder(const ir::Graph& graph) : graph_(graph), uses_(graph.use_counts()) {
    for (const Node& node : graph.nodes()) {
      locations_.emplace_back(node.types.size());
      targets_.emplace_back(node.types.size());
    }
  }

  Program run() {
    place_into_concats();
    for (size_t i = 0; i < graph_.nodes().size(); ++i) {
      place(static_cast<int32_t>(i));
    }
    // Old contents of state that are results are copied before anything is updated.
    std::vector<Location> results;
    for (const ir::Output& output : graph_.outputs()) results.push_back(settled(output));
    for (size_t i = 0; i < results.size(); ++i) place_output(graph_.outputs()[i], results[i]);
    hoist_updates(program_);
    return std::move(program_);
  }

 private:
  const Location& at(Value v) const {
    return locations_[static_cast<size_t>(v.node)][static_cast<size_t>(v.index)];
  }
  void set(Value v, Location location) {
    locations_[static_cast<size_t>(v.node)][static_cast<size_t>(v.index)] = std::move(location);
  }

  int32_t add_buffer(BufferKind kind, const ir::TensorType& type, std::string label) {
    Buffer buffer;
    buffer.kind = kind;
    buffer.bytes = type.shape.numel() * size_of(type.dtype);
    buffer.label = std::move(label);
    program_.buffers.push_back(std::move(buffer));
    return static_cast<int32_t>(program_.buffers.size()) - 1;
  }

  Location fresh(const ir::TensorType& type, std::string label) {
    return {add_buffer(BufferKind::arena, type, std::move(label)), type.dtype,
            StridedView::contiguous(type.shape)};
  }

  /// Where a result goes: the place a concat has for it, or a buffer of its own.
  Location result_place(Value v, const std::string& label) {
    const auto& target = targets_[static_cast<size_t>(v.node)][static_cast<size_t>(v.index)];
    Location location = target ? *target : fresh(graph_.type(v), label);
    set(v, location);
    return location;
  }

  std::string label(const Node& node) const {
    return node.scope->empty() ? std::string(ir::name(node.op))
                               : fmt::format("{}:{}", *node.scope, ir::name(node.op));
  }

  // ---- concat: parts are written where they belong, when their makers can write strided --------

  static bool writes_strided(Op op) { return op == Op::attention_grad || op == Op::fusion; }

  void place_into_concats() {
    for (size_t i = 0; i < graph_.nodes().size(); ++i) {
      const Node& node = graph_.nodes()[i];
      if (node.op != Op::concat) continue;
      const Value whole{static_cast<int32_t>(i), 0};
      const Location base = fresh(node.types[0], label(node));
      set(whole, base);
      int64_t start = 0;
      for (Value part : node.inputs) {
        Location place = base;
        place.view = part_view(base.view, node.attrs.integer(Attr::axis), start, graph_.type(part));
        start += graph_.type(part).shape[node.attrs.integer(Attr::axis)];
        offer(part, place);
      }
    }
  }

  static StridedView part_view(StridedView whole, int64_t axis, int64_t start,
                               const ir::TensorType& part) {
    whole.offset += start * whole.strides[static_cast<size_t>(axis)];
    whole.shape = part.shape;
    return whole;
  }

  /// Follows reshapes and transposes back from a part of a concat to the step that makes it.
  void offer(Value v, Location place) {
    while (uses_[static_cast<size_t>(v.node)] == 1 || graph_.node(v).types.size() > 1) {
      const Node& node = graph_.node(v);
      if (writes_strided(node.op)) {
        if (node.op == Op::attention_grad && place.view.strides.back() != 1) return;
        if (value_uses(v) != 1 || accumulates(node, v.index)) return;
        targets_[static_cast<size_t>(v.node)][static_cast<size_t>(v.index)] = place;
        return;
      }
      const Shape& inner =
          node.inputs.empty() ? node.types[0].shape : graph_.type(node.inputs[0]).shape;
      if (node.op == Op::reshape) {
        const auto view = ir::reshape_view(place.view, inner);
        if (!view) return;
        place.view = *view;
      } else if (node.op == Op::transpose) {
        StridedView view{place.view.offset, inner,
                         std::vector<int64_t>(static_cast<size_t>(inner.rank()))};
        const auto& permutation = node.attrs.integers(Attr::permutation);
        for (size_t d = 0; d < permutation.size(); ++d) {
          view.strides[static_cast<size_t>(permutation[d])] = place.view.strides[d];
        }
        place.view = view;
      } else {
        return;
      }
      v = node.inputs[0];
    }
  }

  int64_t value_uses(Value v) const {
    int64_t count = 0;
    for (const Node& node : graph_.nodes())
      count += std::count(node.inputs.begin(), node.inputs.end(), v);
    for (const ir::Output& o : graph_.outputs()) count += o.value == v ? 1 : 0;
    return count;
  }

  bool accumulates(const Node& node, int32_t result) const {
    if (node.op != Op::fusion) return false;
    const ir::Graph& body = graph_.body(node);
    return ir::has_trait(body.node(body.outputs()[static_cast<size_t>(result)].value).op,
                         ir::kReduction);
  }

  // ---- nodes ------------------------------------------------------------------------------------

  void place(int32_t id) {
    const Node& node = graph_.node(id);
    switch (node.op) {
      case Op::input:
        place_input(id, node);
        return;
      case Op::constant:
      case Op::iota:
        place_leaf(id, node);
        return;
      case Op::concat:
        place_concat(node, id);
        return;
      case Op::pad:
        place_pad(node, id);
        return;
      case Op::fusion:
        place_fusion(node, id);
        return;
      case Op::matmul:
        place_matmul(node, id);
        return;
      case Op::attention:
      case Op::attention_grad:
        place_attention(node, id);
        return;
      case Op::gather:
        place_rows(node, id, StepKind::gather);
        return;
      case Op::scatter_add:
        place_rows(node, id, StepKind::scatter_add);
        return;
      default:
        break;
    }
    ESPALIER_CHECK(ir::has_trait(node.op, ir::kView), ErrorKind::internal, "plan",
                   "{} has no kernel", ir::name(node.op));
    const Value v{id, 0};
    Location location = at(node.inputs[0]);
    auto view = ir::apply_view(node, location.view);
    if (!view) {
      location = contiguous_copy(location, label(node));
      view = ir::apply_view(node, location.view);
      ESPALIER_ASSERT(view.has_value());
    }
    location.view = *view;
    set(v, location);
  }

  void place_input(int32_t id, const Node& node) {
    const std::string& name = node.attrs.text(Attr::name);
    const std::string& role = node.attrs.text(Attr::role);
    const bool kept = role == "parameter" || role == "state";
    const int32_t buffer =
        add_buffer(kept ? BufferKind::state : BufferKind::external, node.types[0], name);
    program_.buffers[static_cast<size_t>(buffer)].input = id;
    ESPALIER_CHECK(program_.inputs.emplace(name, buffer).second, ErrorKind::user, "plan",
                   "two inputs have the name \"{}\"", name);
    program_.input_types[name] = node.types[0];
    set({id, 0}, {buffer, node.types[0].dtype, StridedView::contiguous(node.types[0].shape)});
  }

  void add_loop(const ir::Graph& body, std::vector<Location> inputs, std::vector<Location> outputs,
                std::string label) {
    Step step;
    step.kind = StepKind::loop;
    step.label = std::move(label);
    std::vector<StridedView> in, out;
    for (const Location& l : inputs) in.push_back(l.view);
    for (const Location& l : outputs) out.push_back(l.view);
    step.loop = lower_loop(body, in, out);
    step.inputs = std::move(inputs);
    step.outputs = std::move(outputs);
    program_.steps.push_back(std::move(step));
  }

  void place_leaf(int32_t id, const Node& node) {
    ir::Builder body("fill");
    body.output("0", body.add(node.op, {}, node.attrs));
    add_loop(body.finish(), {}, {result_place({id, 0}, label(node))}, label(node));
  }

  void fill(const Location& place, double value, std::string label) {
    ir::Builder body("fill");
    body.output("0", body.constant(value, place.dtype, place.view.shape));
    add_loop(body.finish(), {}, {place}, std::move(label));
  }

  void copy(const Location& from, const Location& to, std::string label) {
    ir::Builder body("copy");
    body.output("0", body.input("0", {from.dtype, from.view.shape}, "operand"));
    add_loop(body.finish(), {from}, {to}, std::move(label));
  }

  Location contiguous_copy(const Location& from, const std::string& label) {
    Location to = fresh({from.dtype, from.view.shape}, label + ":copy");
    copy(from, to, label + ":copy");
    return to;
  }

  void place_concat(const Node& node, int32_t id) {
    const Location whole = at({id, 0});
    int64_t start = 0;
    for (Value part : node.inputs) {
      Location place = whole;
      place.view = part_view(whole.view, node.attrs.integer(Attr::axis), start, graph_.type(part));
      start += graph_.type(part).shape[node.attrs.integer(Attr::axis)];
      const Location& made = at(part);
      const bool there = made.buffer == place.buffer;
      if (!there) copy(made, place, label(node));
    }
  }

  void place_pad(const Node& node, int32_t id) {
    const Location whole = result_place({id, 0}, label(node));
    fill(whole, node.attrs.real(Attr::value), label(node) + ":fill");
    Location inside = whole;
    const auto& low = node.attrs.integers(Attr::low);
    for (size_t d = 0; d < low.size(); ++d) inside.view.offset += low[d] * whole.view.strides[d];
    inside.view.shape = graph_.type(node.inputs[0]).shape;
    copy(at(node.inputs[0]), inside, label(node));
  }

  std::vector<Location> operands(const Node& node) const {
    std::vector<Location> result;
    for (Value v : node.inputs) result.push_back(at(v));
    return result;
  }

  void place_fusion(const Node& node, int32_t id) {
    std::vector<Location> outputs;
    for (size_t r = 0; r < node.types.size(); ++r) {
      outputs.push_back(result_place({id, static_cast<int32_t>(r)}, label(node)));
    }
    add_loop(graph_.body(node), operands(node), std::move(outputs), label(node));
  }

  void place_matmul(const Node& node, int32_t id) {
    std::vector<Location> inputs = operands(node);
    auto geometry = matmul_geometry(node.attrs, inputs[0].view, inputs[1].view);
    for (size_t side = 0; side < 2 && !geometry; ++side) {
      if (inputs[side].view.is_contiguous()) continue;
      inputs[side] = contiguous_copy(inputs[side], label(node));
      geometry = matmul_geometry(node.attrs, inputs[0].view, inputs[1].view);
    }
    if (!geometry) {
      arrange_for_matmul(node, inputs);
      geometry = matmul_geometry(node.attrs, inputs[0].view, inputs[1].view);
    }
    ESPALIER_CHECK(geometry.has_value(), ErrorKind::internal, "plan", "no layout for the matmul {}",
                   label(node));
    for (size_t i = 2; i < inputs.size(); ++i) {
      if (!inputs[i].view.is_contiguous()) inputs[i] = contiguous_copy(inputs[i], label(node));
    }
    add_step(StepKind::matmul, node, id, std::move(inputs));
    program_.steps.back().matmul = *geometry;
  }

  /// Copies both operands with their axes in the order batch, free, contracted.
  void arrange_for_matmul(const Node& node, std::vector<Location>& inputs) {
    const auto axes = [&](Attr key) {
      return node.attrs.has(key) ? node.attrs.integers(key) : std::vector<int64_t>{};
    };
    for (size_t side = 0; side < 2; ++side) {
      const auto batch = axes(side == 0 ? Attr::lhs_batch : Attr::rhs_batch);
      const auto contract = axes(side == 0 ? Attr::lhs_contract : Attr::rhs_contract);
      std::vector<int64_t> order = batch;
      for (int64_t d = 0; d < inputs[side].view.shape.rank(); ++d) {
        const bool taken = std::count(batch.begin(), batch.end(), d) +
                               std::count(contract.begin(), contract.end(), d) >
                           0;
        if (!taken) order.push_back(d);
      }
      order.insert(order.end(), contract.begin(), contract.end());
      Location arranged = inputs[side];
      arranged.view.shape = Shape();
      arranged.view.strides.clear();
      for (int64_t d : order) {
        arranged.view.shape.push_back(inputs[side].view.shape[d]);
        arranged.view.strides.push_back(inputs[side].view.strides[static_cast<size_t>(d)]);
      }
      arranged = contiguous_copy(arranged, label(node));
      // Back to the order of the node's axes, now as a view of the arranged copy.
      Location seen = inputs[side];
      seen.buffer = arranged.buffer;
      seen.view.offset = 0;
      for (size_t i = 0; i < order.size(); ++i) {
        seen.view.strides[static_cast<size_t>(order[i])] = arranged.view.strides[i];
      }
      inputs[side] = seen;
    }
  }

  void add_step(StepKind kind, const Node& node, int32_t id, std::vector<Location> inputs) {
    Step step;
    step.kind = kind;
    step.label = label(node);
    step.attrs = node.attrs;
    step.inputs = std::move(inputs);
    for (size_t r = 0; r < node.types.size(); ++r) {
      step.outputs.push_back(result_place({id, static_cast<int32_t>(r)}, label(node)));
    }
    program_.steps.push_back(std::move(step));
  }

  void place_attention(const Node& node, int32_t id) {
    std::vector<Location> inputs = operands(node);
    for (size_t i = 0; i < inputs.size(); ++i) {
      // q, k, v, out and the cotangent may be strided with a contiguous head; the rest is dense.
      const bool tensor = i < 3 || (node.op == Op::attention_grad && (i == 3 || i == 5));
      const bool fits = tensor ? inputs[i].view.strides.back() == 1 || inputs[i].view.shape[3] == 1
                               : inputs[i].view.is_contiguous();
      if (!fits) inputs[i] = contiguous_copy(inputs[i], label(node));
    }
    add_step(node.op == Op::attention ? StepKind::attention : StepKind::attention_grad, node, id,
             std::move(inputs));
  }

  void place_rows(const Node& node, int32_t id, StepKind kind) {
    std::vector<Location> inputs = operands(node);
    for (Location& l : inputs) {
      if (!l.view.is_contiguous()) l = contiguous_copy(l, label(node));
    }
    add_step(kind, node, id, std::move(inputs));
  }

  // ---- outputs ----------------------------------------------------------------------------------

  /// The result itself, or a copy where its memory changes during the run or is strided.
  Location settled(const ir::Output& output) {
    Location made = at(output.value);
    const bool kept = program_.buffers[static_cast<size_t>(made.buffer)].kind == BufferKind::state;
    const bool own = output.alias >= 0 && at({output.alias, 0}).buffer == made.buffer;
    if (own || (!kept && made.view.is_contiguous())) return made;
    return contiguous_copy(made, output.name);
  }

  void place_output(const ir::Output& output, const Location& made) {
    if (output.alias < 0) {
      ESPALIER_CHECK(program_.outputs.emplace(output.name, made).second, ErrorKind::user, "plan",
                     "two outputs have the name \"{}\"", output.name);
      return;
    }
    const Location state = at({output.alias, 0});
    if (made.buffer == state.buffer) return;
    if (!updates_.in_place(made, state)) copy(made, state, output.name + ":update");
  }

  const ir::Graph& graph_;
  std::vector<int32_t> uses_;
  std::vector<std::vector<Location>> locations_;
  std::vector<std::vector<std::optional<Location>>> targets_;
  Program program_;
  StateUpdates updates_{program_};
};

}  // namespace

std::string_view name(StepKind kind) {
  switch (kind) {
    case StepKind::loop:
      return "loop";
    case StepKind::matmul:
      return "matmul";
    case StepKind::attention:
      return "attention";
    case StepKind::attention_grad:
      return "attention_grad";
    case StepKind::gather:
      return "gather";
    case StepKind::scatter_add:
      return "scatter_add";
  }
  return "step";
}

int32_t Program::root(int32_t buffer) const {
  while (buffers[static_cast<size_t>(buffer)].shares >= 0) {
    buffer = buffers[static_cast<size_t>(buffer)].shares;
  }
  return buffer;
}

Program build_program(const ir::Graph& graph) { return ProgramBuilder(graph).run(); }

}  // namespace espalier::plan
