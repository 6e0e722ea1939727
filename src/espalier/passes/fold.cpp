// SPDX-License-Identifier: Apache-2.0
// fold: computes what is known now and drops what does nothing.
//
//   add splat(2), splat(3)        --> splat(5)
//   mul x, splat(1); x + 0; -(-x) --> x
//   reshape(reshape(x))           --> reshape(x); likewise transpose, broadcast, convert
//   gather(convert(table))        --> convert(gather(table)): the rows that are read, not all
//   pad(a) + pad(b), filling disjoint parts of one axis with zeros around --> concat
#include <algorithm>
#include <cmath>
#include <optional>

#include "espalier/ir/builder.h"
#include "espalier/passes/pass.h"

namespace espalier::passes {
namespace {

using ir::Attr;
using ir::Node;
using ir::Op;
using ir::Value;

std::optional<double> evaluate(Op op, double a, double b) {
  switch (op) {
    case Op::convert:
      return a;
    case Op::neg:
      return -a;
    case Op::abs:
      return std::abs(a);
    case Op::exp:
      return std::exp(a);
    case Op::log:
      return std::log(a);
    case Op::sqrt:
      return std::sqrt(a);
    case Op::rsqrt:
      return 1.0 / std::sqrt(a);
    case Op::add:
      return a + b;
    case Op::sub:
      return a - b;
    case Op::mul:
      return a * b;
    case Op::div:
      return a / b;
    case Op::max:
      return std::max(a, b);
    case Op::min:
      return std::min(a, b);
    case Op::pow:
      return std::pow(a, b);
    default:
      return std::nullopt;
  }
}

class Folder {
 public:
  Folder(const ir::Graph& graph, ir::Builder& out) : rewriter_(graph, out), out_(out) {}

  void run() {
    const ir::Graph& graph = rewriter_.source();
    for (size_t i = 0; i < graph.nodes().size(); ++i) {
      const auto id = static_cast<int32_t>(i);
      const Node& node = graph.nodes()[i];
      out_.set_scope(node.scope);
      const Value simple = simplify(node);
      if (simple.defined()) {
        rewriter_.map({id, 0}, simple);
      } else {
        rewriter_.copy(id);
      }
    }
    rewriter_.copy_outputs();
  }

 private:
  Value operand(const Node& node, size_t i) const { return rewriter_[node.inputs[i]]; }
  const Node& made(Value v) const { return out_.node(v); }

  std::optional<double> splat(Value v) const {
    const Node& node = made(v);
    if (node.op != Op::constant) return std::nullopt;
    return node.attrs.real(Attr::value);
  }
  Value splat(double value, const ir::TensorType& type) {
    return out_.constant(value, type.dtype, type.shape);
  }

  Value simplify(const Node& node) {
    if (node.attrs.has(Attr::remat)) return {};
    if (ir::has_trait(node.op, ir::kElementwise)) return simplify_elementwise(node);
    switch (node.op) {
      case Op::broadcast:
      case Op::reshape:
      case Op::transpose:
      case Op::slice:
        return simplify_view(node);
      case Op::gather:
        return simplify_gather(node);
      case Op::reduce_sum:
        return simplify_sum(node);
      case Op::reduce_max: {
        const Value x = operand(node, 0);
        return splat(x) ? splat(*splat(x), node.types[0]) : Value{};
      }
      default:
        return {};
    }
  }

  Value simplify_elementwise(const Node& node) {
    const ir::TensorType& type = node.types[0];
    const Value a = operand(node, 0);
    const Value b = node.inputs.size() > 1 ? operand(node, 1) : a;
    const auto x = splat(a);
    const auto y = splat(b);
    if (node.inputs.size() <= 2 && x && y) {
      const auto value = evaluate(node.op, *x, *y);
      if (value)
        return splat(round_to(is_float(type.dtype) ? DType::f64 : type.dtype, *value), type);
    }
    switch (node.op) {
      case Op::add:
        if (y && *y == 0.0) return a;
        if (x && *x == 0.0) return b;
        return concat_of_pads(a, b);
      case Op::sub:
        return y && *y == 0.0 ? a : Value{};
      case Op::mul:
        if (y && *y == 1.0) return a;
        if (x && *x == 1.0) return b;
        return {};
      case Op::div:
        return y && *y == 1.0 ? a : Value{};
      case Op::neg:
        return made(a).op == Op::neg ? made(a).inputs[0] : Value{};
      case Op::convert:
        return simplify_convert(node, a);
      case Op::select:
        return b == operand(node, 2) ? b : Value{};
      default:
        return {};
    }
  }

  Value simplify_convert(const Node& node, Value a) {
    const DType to = node.types[0].dtype;
    const DType from = out_.type(a).dtype;
    if (from == to) return a;
    const Node& inner = made(a);
    if (inner.op != Op::convert) return {};
    // Widening and back is exact.
    const Value x = inner.inputs[0];
    const bool widened = size_of(from) > size_of(out_.type(x).dtype) && is_float(from) &&
                         is_float(out_.type(x).dtype);
    if (!widened) return {};
    if (out_.type(x).dtype == to) return x;
    return out_.add(Op::convert, {x}, {{Attr::dtype, to}});
  }

  Value simplify_view(const Node& node) {
    const Value a = operand(node, 0);
    const ir::TensorType& type = node.types[0];
    if (const auto x = splat(a)) return splat(*x, type);
    const Node inner = made(a);
    if (node.op == Op::reshape) {
      if (out_.type(a) == type) return a;
      if (inner.op != Op::reshape) return {};
      const Value x = inner.inputs[0];
      return out_.type(x) == type ? x : out_.add(Op::reshape, {x}, node.attrs);
    }
    if (node.op == Op::transpose) {
      std::vector<int64_t> permutation = node.attrs.integers(Attr::permutation);
      Value x = a;
      if (inner.op == Op::transpose) {
        for (int64_t& axis : permutation) {
          axis = inner.attrs.integers(Attr::permutation)[static_cast<size_t>(axis)];
        }
        x = inner.inputs[0];
      }
      if (std::is_sorted(permutation.begin(), permutation.end())) return x;
      if (x == a) return {};
      return out_.add(Op::transpose, {x}, {{Attr::permutation, permutation}});
    }
    if (node.op == Op::broadcast) {
      if (out_.type(a) == type) return a;
      if (inner.op != Op::broadcast) return {};
      std::vector<int64_t> axes = inner.attrs.integers(Attr::axes);
      for (int64_t& axis : axes) axis = node.attrs.integers(Attr::axes)[static_cast<size_t>(axis)];
      return out_.add(Op::broadcast, {inner.inputs[0]},
                      {{Attr::shape, type.shape.dims()}, {Attr::axes, axes}});
    }
    return out_.type(a) == type ? a : Value{};
  }

  Value simplify_gather(const Node& node) {
    const Node table = made(operand(node, 0));
    if (table.op != Op::convert || table.attrs.has(Attr::remat)) return {};
    if (node.types[0].shape.numel() > table.types[0].shape.numel()) return {};
    const Value rows = out_.add(Op::gather, {table.inputs[0], operand(node, 1)});
    return out_.add(Op::convert, {rows}, table.attrs);
  }

  Value simplify_sum(const Node& node) {
    const Value x = operand(node, 0);
    const Shape& shape = out_.type(x).shape;
    double count = 1.0;
    for (int64_t axis : node.attrs.integers(Attr::axes)) count *= static_cast<double>(shape[axis]);
    if (const auto value = splat(x)) return splat(*value * count, node.types[0]);
    if (count != 1.0 || shape.numel() == 0) return {};
    return out_.type(x) == node.types[0]
               ? x
               : out_.add(Op::reshape, {x}, {{Attr::shape, node.types[0].shape.dims()}});
  }

  /// The axis along which a zero pad places its operand, or -1.
  int64_t padded_axis(const Node& pad) const {
    if (pad.op != Op::pad || pad.attrs.real(Attr::value) != 0.0) return -1;
    int64_t axis = -1;
    for (int64_t d = 0; d < pad.types[0].shape.rank(); ++d) {
      const auto i = static_cast<size_t>(d);
      if (pad.attrs.integers(Attr::low)[i] + pad.attrs.integers(Attr::high)[i] == 0) continue;
      if (axis >= 0) return -1;
      axis = d;
    }
    return axis;
  }

  /// pad(x) + pad(y) with x ending where y begins: pad(concat(x, y)), or the concat itself.
  Value concat_of_pads(Value a, Value b) {
    const Node p = made(a);
    const Node q = made(b);
    const int64_t axis = padded_axis(p);
    if (axis < 0 || padded_axis(q) != axis) return {};
    const auto i = static_cast<size_t>(axis);
    if (p.attrs.integers(Attr::low)[i] > q.attrs.integers(Attr::low)[i]) {
      return concat_of_pads_in_order(b, q, a, p, axis);
    }
    return concat_of_pads_in_order(a, p, b, q, axis);
  }

  Value concat_of_pads_in_order(Value a, const Node& p, Value, const Node& q, int64_t axis) {
    const auto i = static_cast<size_t>(axis);
    const int64_t p_end = p.attrs.integers(Attr::low)[i] + out_.type(p.inputs[0]).shape[axis];
    if (p_end != q.attrs.integers(Attr::low)[i]) return {};
    std::vector<Value> parts;
    for (Value part : {p.inputs[0], q.inputs[0]}) {
      const Node& inner = made(part);
      if (inner.op == Op::concat && inner.attrs.integer(Attr::axis) == axis) {
        parts.insert(parts.end(), inner.inputs.begin(), inner.inputs.end());
      } else {
        parts.push_back(part);
      }
    }
    const Value joined = out_.add(Op::concat, parts, {{Attr::axis, axis}});
    if (out_.type(joined) == out_.type(a)) return joined;
    std::vector<int64_t> low = p.attrs.integers(Attr::low);
    std::vector<int64_t> high = q.attrs.integers(Attr::high);
    return out_.add(Op::pad, {joined}, {{Attr::low, low}, {Attr::high, high}, {Attr::value, 0.0}});
  }

  ir::Rewriter rewriter_;
  ir::Builder& out_;
};

}  // namespace

ir::Graph fold(const ir::Graph& graph, const PassOptions&) {
  ir::Builder out(graph.name());
  Folder(graph, out).run();
  return out.finish();
}

}  // namespace espalier::passes
