// SPDX-License-Identifier: Apache-2.0
#include "espalier/plan/lower_loop.h"

#include <algorithm>
#include <array>
#include <map>
#include <numeric>

#include "espalier/base/error.h"

namespace espalier::plan {
namespace {

using ir::Attr;
using ir::Node;
using ir::Op;
using ir::Value;

/// For each axis of a value, the axis of the domain it runs along.
using AxisMap = std::vector<int64_t>;

AxisMap identity_map(int64_t rank) {
  AxisMap map(static_cast<size_t>(rank));
  std::iota(map.begin(), map.end(), 0);
  return map;
}

class Lowering {
 public:
  Lowering(const ir::Graph& body, const std::vector<ir::StridedView>& operands,
           const std::vector<ir::StridedView>& results)
      : body_(body), operand_views_(operands), result_views_(results) {
    const std::vector<int32_t> inputs = body.inputs();
    for (size_t i = 0; i < inputs.size(); ++i) input_number_[inputs[i]] = static_cast<int32_t>(i);
    find_domain();
  }

  LoweredLoop run() {
    for (size_t r = 0; r < body_.outputs().size(); ++r) emit_result(static_cast<int32_t>(r));
    collapse();
    classify();
    find_phases();
    return std::move(out_);
  }

 private:
  void consider(const Shape& shape) {
    const int64_t size = shape.numel();
    const int64_t best = domain_.numel();
    if (!has_domain_ || size > best || (size == best && shape.rank() > domain_.rank())) {
      domain_ = shape;
      has_domain_ = true;
    }
  }

  void find_domain() {
    for (const Node& node : body_.nodes()) {
      if (ir::has_trait(node.op, ir::kReduction)) {
        // The domain is what is reduced, whatever else there is.
        domain_ = body_.type(node.inputs[0]).shape;
        return;
      }
    }
    for (const ir::Output& output : body_.outputs()) consider(body_.type(output.value).shape);
  }

  bool is_row_reduction(const Node& node) const {
    return ir::has_trait(node.op, ir::kReduction) && domain_.rank() >= 2 &&
           node.attrs.integers(Attr::axes) == std::vector<int64_t>{domain_.rank() - 1};
  }

  int32_t push(LoopInst inst) {
    inst.space = LoopSpace::uniform;  // classify() says which
    out_.loop.insts.push_back(inst);
    return static_cast<int32_t>(out_.loop.insts.size()) - 1;
  }

  int32_t add_operand(OperandRole role, DType dtype, LoopBinding binding) {
    out_.loop.operands.push_back({role, dtype});
    out_.bindings.push_back(std::move(binding));
    return static_cast<int32_t>(out_.loop.operands.size()) - 1;
  }

  std::vector<int64_t> domain_strides(const std::vector<int64_t>& strides, const AxisMap& map) {
    std::vector<int64_t> result(static_cast<size_t>(domain_.rank()), 0);
    for (size_t i = 0; i < map.size(); ++i) result[static_cast<size_t>(map[i])] += strides[i];
    return result;
  }

  int32_t emit_index(int64_t base, std::vector<int64_t> strides) {
    const int32_t operand = add_operand(OperandRole::index, DType::i64,
                                        {LoopBinding::Kind::index, 0, base, std::move(strides)});
    return push({.op = LoopOp::index, .dtype = DType::i64, .operand = operand});
  }

  int32_t emit(Value v, const AxisMap& map) {
    const auto key = std::make_pair(v.node, map);
    const auto found = made_.find(key);
    if (found != made_.end()) return found->second;
    const int32_t inst = emit_new(v, map);
    made_.emplace(key, inst);
    return inst;
  }

  int32_t emit_new(Value v, const AxisMap& map) {
    const Node& node = body_.node(v);
    const DType dtype = node.types[0].dtype;
    switch (node.op) {
      case Op::input:
        return emit_load(v.node, map);
      case Op::constant:
        return push(
            {.op = LoopOp::constant, .dtype = dtype, .value = node.attrs.real(Attr::value)});
      case Op::iota: {
        std::vector<int64_t> strides(node.types[0].shape.dims().size(), 0);
        strides[static_cast<size_t>(node.attrs.integer(Attr::axis))] = 1;
        const int32_t index = emit_index(0, domain_strides(strides, map));
        if (dtype == DType::i64) return index;
        return push({.op = LoopOp::convert, .dtype = dtype, .args = {index, -1, -1}});
      }
      case Op::random_uniform: {
        const int32_t seed = emit(node.inputs[0], {});
        const int32_t step = emit(node.inputs[1], {});
        int32_t index = emit_index(0, domain_strides(node.types[0].shape.strides(), map));
        if (node.inputs.size() > 2) {
          index = push({.op = LoopOp::add,
                        .dtype = DType::i64,
                        .args = {index, emit(node.inputs[2], {}), -1}});
        }
        out_.ids.push_back(node.attrs.integer(Attr::id));
        return push({.op = LoopOp::uniform,
                     .dtype = DType::f32,
                     .args = {seed, step, index},
                     .id = static_cast<int64_t>(out_.ids.size()) - 1});
      }
      case Op::broadcast: {
        AxisMap inner;
        for (int64_t axis : node.attrs.integers(Attr::axes)) {
          inner.push_back(map[static_cast<size_t>(axis)]);
        }
        return emit(node.inputs[0], inner);
      }
      case Op::reduce_sum:
      case Op::reduce_max: {
        ESPALIER_ASSERT(is_row_reduction(node) && map == identity_map(domain_.rank() - 1));
        const int32_t x = emit(node.inputs[0], identity_map(domain_.rank()));
        row_reductions_ = true;
        return push({.op = node.op == Op::reduce_sum ? LoopOp::row_sum : LoopOp::row_max,
                     .dtype = dtype,
                     .args = {x, -1, -1}});
      }
      default:
        break;
    }
    const auto op = loop_op(node.op);
    ESPALIER_CHECK(op.has_value(), ErrorKind::internal, "lower", "{} is no loop op", name(node.op));
    LoopInst inst{.op = *op, .dtype = dtype};
    for (size_t i = 0; i < node.inputs.size(); ++i) inst.args[i] = emit(node.inputs[i], map);
    return push(inst);
  }

  int32_t emit_load(int32_t node, const AxisMap& map) {
    const int32_t number = input_number_.at(node);
    const ir::StridedView& view = operand_views_[static_cast<size_t>(number)];
    const DType dtype = body_.node(node).types[0].dtype;
    const int32_t operand = add_operand(
        OperandRole::input, dtype,
        {LoopBinding::Kind::operand, number, view.offset, domain_strides(view.strides, map)});
    return push({.op = LoopOp::load, .dtype = dtype, .operand = operand});
  }

  void emit_result(int32_t r) {
    const Value v = body_.outputs()[static_cast<size_t>(r)].value;
    const Node& node = body_.node(v);
    const ir::StridedView& view = result_views_[static_cast<size_t>(r)];
    const bool reduction = ir::has_trait(node.op, ir::kReduction);
    if (reduction && !is_row_reduction(node)) {
      ESPALIER_CHECK(node.op == Op::reduce_sum, ErrorKind::internal, "lower",
                     "only sums accumulate over outer axes");
      const int32_t x = emit(node.inputs[0], identity_map(domain_.rank()));
      AxisMap kept;
      for (int64_t d = 0; d < domain_.rank(); ++d) {
        const auto& axes = node.attrs.integers(Attr::axes);
        if (std::find(axes.begin(), axes.end(), d) == axes.end()) kept.push_back(d);
      }
      const int32_t operand =
          add_operand(OperandRole::accumulator, node.types[0].dtype,
                      {LoopBinding::Kind::result, r, 0, domain_strides(view.strides, kept)});
      push({.op = LoopOp::accumulate,
            .dtype = node.types[0].dtype,
            .args = {x, -1, -1},
            .operand = operand});
      out_.accumulates.push_back(1);
      return;
    }
    // Equal shapes of both ranks can only be full; a value with one axis less is a row value.
    const bool full = node.types[0].shape == domain_;
    const AxisMap map = identity_map(full ? domain_.rank() : domain_.rank() - 1);
    ESPALIER_ASSERT(static_cast<int64_t>(map.size()) == node.types[0].shape.rank());
    const int32_t x = emit(v, map);
    const int32_t operand =
        add_operand(OperandRole::output, node.types[0].dtype,
                    {LoopBinding::Kind::result, r, view.offset, domain_strides(view.strides, map)});
    push({.op = LoopOp::store,
          .dtype = node.types[0].dtype,
          .args = {x, -1, -1},
          .operand = operand});
    out_.accumulates.push_back(0);
  }

  /// Joins axes that every operand walks through as one; drops axes of size 1.
  void collapse() {
    std::vector<int64_t> extents = domain_.dims();
    const auto drop = [&](size_t d) {
      extents.erase(extents.begin() + static_cast<std::ptrdiff_t>(d));
      for (LoopBinding& b : out_.bindings) {
        b.strides.erase(b.strides.begin() + static_cast<std::ptrdiff_t>(d));
      }
    };
    // With row reductions the inner axis is what is reduced and stays by itself.
    const auto protected_inner = [&] {
      return row_reductions_ ? extents.size() - 1 : extents.size();
    };
    for (size_t d = extents.size(); d-- > 0;) {
      if (extents[d] == 1 && extents.size() > 1 && d != protected_inner()) drop(d);
    }
    for (size_t d = extents.size(); d-- > 1;) {
      if (d >= extents.size() || d == protected_inner()) continue;
      const bool joins = std::all_of(
          out_.bindings.begin(), out_.bindings.end(),
          [&](const LoopBinding& b) { return b.strides[d - 1] == b.strides[d] * extents[d]; });
      if (!joins) continue;
      extents[d] *= extents[d - 1];
      drop(d - 1);
    }
    if (extents.empty()) {  // a scalar
      extents.push_back(1);
      for (LoopBinding& b : out_.bindings) b.strides.push_back(0);
    }
    if (row_reductions_ && extents.size() == 1) {
      extents.insert(extents.begin(), 1);
      for (LoopBinding& b : out_.bindings) b.strides.insert(b.strides.begin(), 0);
    }
    out_.inner_extent = extents.back();
    extents.pop_back();
    out_.outer_extents = extents;
    out_.loop.outer_rank = static_cast<int32_t>(extents.size());
  }

  void classify() {
    for (size_t i = 0; i < out_.bindings.size(); ++i) {
      LoopOperand& operand = out_.loop.operands[i];
      const std::vector<int64_t>& strides = out_.bindings[i].strides;
      operand.varies_outer =
          std::any_of(strides.begin(), strides.end() - 1, [](int64_t s) { return s != 0; });
      const int64_t inner = strides.back();
      // A store goes where the loop goes, even where all extents on the way are 1.
      const bool sink = operand.role == OperandRole::output;
      if (sink && out_.loop.outer_rank > 0) operand.varies_outer = true;
      operand.inner = inner == 1                          ? InnerStride::unit
                      : inner != 0                        ? InnerStride::strided
                      : sink && out_.loop.outer_rank == 0 ? InnerStride::unit
                                                          : InnerStride::none;
    }
    for (LoopInst& inst : out_.loop.insts) {
      if (inst.op == LoopOp::load || inst.op == LoopOp::index) {
        inst.space = out_.loop.operands[static_cast<size_t>(inst.operand)].space();
        continue;
      }
      LoopSpace space = LoopSpace::uniform;
      for (int32_t a : inst.args) {
        if (a >= 0) space = std::max(space, out_.loop.insts[static_cast<size_t>(a)].space);
      }
      if (inst.op == LoopOp::row_sum || inst.op == LoopOp::row_max) space = LoopSpace::row;
      if (inst.op == LoopOp::store || inst.op == LoopOp::accumulate) {
        const LoopOperand& operand = out_.loop.operands[static_cast<size_t>(inst.operand)];
        space = inst.op == LoopOp::store ? operand.space() : LoopSpace::full;
      }
      inst.space = space;
    }
  }

  /// A result may overwrite an operand if nothing reads the operand after the store: the store is
  /// in the last sweep.
  void find_phases() {
    std::vector<int32_t> phase(out_.loop.insts.size(), 0);
    int32_t last = 0;
    for (size_t i = 0; i < out_.loop.insts.size(); ++i) {
      const LoopInst& inst = out_.loop.insts[i];
      for (int32_t a : inst.args) {
        if (a < 0) continue;
        const LoopOp op = out_.loop.insts[static_cast<size_t>(a)].op;
        const bool reduced = op == LoopOp::row_sum || op == LoopOp::row_max;
        phase[i] = std::max(phase[i], phase[static_cast<size_t>(a)] + (reduced ? 1 : 0));
      }
      last = std::max(last, phase[i]);
    }
    out_.may_overwrite.assign(body_.outputs().size(), 0);
    for (size_t i = 0; i < out_.loop.insts.size(); ++i) {
      const LoopInst& inst = out_.loop.insts[i];
      if (inst.op != LoopOp::store || phase[i] != last) continue;
      const LoopBinding& b = out_.bindings[static_cast<size_t>(inst.operand)];
      const LoopOperand& operand = out_.loop.operands[static_cast<size_t>(inst.operand)];
      if (operand.space() == LoopSpace::full || !row_reductions_) {
        out_.may_overwrite[static_cast<size_t>(b.number)] = 1;
      }
    }
  }

  const ir::Graph& body_;
  const std::vector<ir::StridedView>& operand_views_;
  const std::vector<ir::StridedView>& result_views_;
  std::map<int32_t, int32_t> input_number_;
  std::map<std::pair<int32_t, AxisMap>, int32_t> made_;
  Shape domain_;
  bool has_domain_ = false;
  bool row_reductions_ = false;
  LoweredLoop out_;
};

}  // namespace

int64_t LoweredLoop::outer_count() const {
  return std::accumulate(outer_extents.begin(), outer_extents.end(), int64_t{1},
                         std::multiplies<>());
}

std::vector<int64_t> LoweredLoop::stride_table() const {
  std::vector<int64_t> table;
  for (const LoopBinding& b : bindings) {
    table.insert(table.end(), b.strides.begin(), b.strides.end());
  }
  return table;
}

std::optional<LoopOp> loop_op(ir::Op op) {
  static const auto table = [] {
    std::array<std::optional<LoopOp>, ir::kOpCount> made{};
    for (int i = 0; i < kLoopOpCount; ++i) {
      const LoopOpInfo& row = info(static_cast<LoopOp>(i));
      const std::optional<Op> same = ir::parse_op(row.name);
      if (same && ir::has_trait(*same, ir::kElementwise)) made[static_cast<size_t>(*same)] = row.op;
    }
    return made;
  }();
  return table[static_cast<size_t>(op)];
}

LoweredLoop lower_loop(const ir::Graph& body, const std::vector<ir::StridedView>& operands,
                       const std::vector<ir::StridedView>& results) {
  return Lowering(body, operands, results).run();
}

}  // namespace espalier::plan
