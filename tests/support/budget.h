// SPDX-License-Identifier: Apache-2.0
// Error budgets of a whole graph, derived element by element (running error analysis, Higham,
// "Accuracy and Stability of Numerical Algorithms", ch. 3): what a correct machine that computes in
// the graph's dtypes, with f32 accumulators, may differ from the exact values.
//
// Every node adds its own rounding to what its operands bring along. Sums of K terms add
// kSum * sqrt(K) * u * sum|terms|, functions (exp, tanh, ...) kFunction units in the last place.
// What cannot be bounded (a quotient whose denominator may be 0) has an infinite budget, and so has
// what is computed from it: tests count how many elements are bounded.
#pragma once

#include <algorithm>
#include <map>

#include "espalier/autodiff/grad.h"
#include "espalier/base/error.h"
#include "espalier/interp/kernels.h"
#include "espalier/ir/decompose.h"
#include "espalier/ir/tensor.h"

namespace espalier::testing {

/// attention_grad in parts: the gradient of sum(attention(q, k, v) * g) through attention's parts.
/// The results of the forward pass among its operands are computed once more.
inline std::vector<ir::Value> attention_grad_parts(ir::Builder& out, const ir::Node& node,
                                                   const std::vector<ir::Value>& operands) {
  // q, k, v and g may depend on one another: each counts as a variable of its own.
  const auto variable = [&](size_t i) { return stop_gradient(Tensor(out, operands[i])).value(); };
  ir::Node forward = node;
  forward.op = ir::Op::attention;
  const ir::TensorType out_type = out.graph().type(operands[3]);
  forward.types = {out_type, out.graph().type(operands[4])};
  std::vector<ir::Value> inputs{variable(0), variable(1), variable(2)};
  const std::vector<ir::Value> wrt = inputs;
  inputs.insert(inputs.end(), operands.begin() + 6, operands.end());
  const Tensor result(out, ir::decompose(out, forward, inputs)[0]);
  const auto wide = [](const Tensor& x) {
    return x.dtype() == DType::f64 ? x : convert(x, DType::f32);
  };
  const Tensor g(out, variable(5));
  const Tensor loss = reduce_sum(wide(result) * wide(g), {0, 1, 2, 3});
  return autodiff::gradients(out, loss.value(), wrt);
}

/// The graph with composite ops replaced by their parts.
inline ir::Graph decomposed(const ir::Graph& graph) {
  ir::Builder out(graph.name());
  ir::Rewriter rewriter(graph, out);
  for (size_t i = 0; i < graph.nodes().size(); ++i) {
    const auto id = static_cast<int32_t>(i);
    const ir::Node& node = graph.node(id);
    const bool attention_grad = node.op == ir::Op::attention_grad;
    if (!has_trait(node.op, ir::kComposite) && !attention_grad) {
      rewriter.copy(id);
      continue;
    }
    std::vector<ir::Value> operands;
    for (ir::Value v : node.inputs) operands.push_back(rewriter[v]);
    const std::vector<ir::Value> parts = attention_grad ? attention_grad_parts(out, node, operands)
                                                        : ir::decompose(out, node, operands);
    for (size_t r = 0; r < parts.size(); ++r) {
      rewriter.map({id, static_cast<int32_t>(r)}, parts[r]);
    }
  }
  rewriter.copy_outputs();
  return out.finish();
}

/// Exact values of a graph's outputs and how far a machine may be from each element.
struct Budgeted {
  std::vector<interp::DoubleTensor> want;
  std::vector<std::vector<double>> budget;
};

class BudgetAnalysis {
 public:
  static constexpr double kSum = 4.0;
  static constexpr double kFunction = 4.0;

  explicit BudgetAnalysis(ir::Graph graph) : graph_(std::move(graph)) {}

  Budgeted run(std::span<const interp::DoubleTensor> inputs) {
    const auto watch = [&](int32_t id, std::span<const interp::DoubleTensor> results) {
      values_.emplace_back(results.begin(), results.end());
      errors_.push_back(bounds_of(graph_.node(id), values_.back()));
    };
    Budgeted done;
    done.want = interp::evaluate(graph_, inputs, {.round_f32 = false, .watch = watch});
    for (const ir::Output& output : graph_.outputs()) done.budget.push_back(error(output.value));
    return done;
  }

 private:
  using Elements = std::vector<double>;
  using Op = ir::Op;

  const interp::DoubleTensor& value(ir::Value v) const {
    return values_[static_cast<size_t>(v.node)][static_cast<size_t>(v.index)];
  }
  const Elements& error(ir::Value v) const {
    return errors_[static_cast<size_t>(v.node)][static_cast<size_t>(v.index)];
  }

  /// Rounding of one result: the exact value is rounded to bf16 and f16 too, hence twice there.
  static double rounding(DType dtype, double x) {
    const double smallest = dtype == DType::f16 ? 0x1p-24 : 0x1p-149;
    const double twice = dtype == DType::bf16 || dtype == DType::f16 ? 2.0 : 1.0;
    if (!is_float(dtype) || x == 0.0 || !std::isfinite(x)) return 0.0;
    return twice * unit_roundoff(dtype) * std::abs(x) + smallest;
  }
  static double accumulator(DType dtype) {
    return unit_roundoff(dtype == DType::f64 ? DType::f64 : DType::f32);
  }

  /// NaN comes of 0 * infinity and the like: nothing is known of the element.
  std::vector<Elements> bounds_of(const ir::Node& node,
                                  const std::vector<interp::DoubleTensor>& results) {
    std::vector<Elements> errors = errors_of(node, results);
    for (Elements& of_result : errors) {
      for (double& e : of_result) e = std::isnan(e) ? HUGE_VAL : e;
    }
    return errors;
  }

  std::vector<Elements> errors_of(const ir::Node& node,
                                  const std::vector<interp::DoubleTensor>& results) {
    if (node.op == Op::fusion) return fusion_errors(node);
    const interp::DoubleTensor& y = results[0];
    const DType dtype = y.type.dtype;
    Elements errors(y.data.size(), 0.0);
    if (node.op == Op::input || node.op == Op::iota || node.op == Op::random_uniform) {
      return {errors};
    }
    if (is_largest_test(node)) {
      return {largest_test_errors(node)};
    } else if (has_trait(node.op, ir::kElementwise)) {
      for (size_t i = 0; i < errors.size(); ++i) errors[i] = elementwise_error(node, i, y.data[i]);
    } else if (node.op == Op::dot || node.op == Op::matmul) {
      errors = dot_errors(node);
    } else if (node.op == Op::reduce_sum || node.op == Op::scatter_add) {
      errors = sum_errors(node, errors.size());
    } else if (node.op == Op::reduce_max) {
      return {max_errors(node, y.data)};
    } else if (node.op != Op::constant) {
      errors = moved_errors(node);
      return {errors};  // elements are moved, not computed
    }
    for (size_t i = 0; i < errors.size(); ++i) errors[i] += rounding(dtype, y.data[i]);
    return {errors};
  }

  /// The body's own analysis, with the errors that the operands bring along.
  std::vector<Elements> fusion_errors(const ir::Node& node) {
    BudgetAnalysis body(graph_.body(node));
    std::vector<interp::DoubleTensor> operands;
    for (ir::Value v : node.inputs) {
      operands.push_back(value(v));
      body.input_errors_.push_back(error(v));
    }
    return body.run_body(operands);
  }
  std::vector<Elements> run_body(std::span<const interp::DoubleTensor> operands) {
    size_t next = 0;
    const auto watch = [&](int32_t id, std::span<const interp::DoubleTensor> results) {
      values_.emplace_back(results.begin(), results.end());
      const bool is_input = graph_.node(id).op == Op::input;
      errors_.push_back(is_input ? std::vector<Elements>{input_errors_[next++]}
                                 : bounds_of(graph_.node(id), values_.back()));
    };
    interp::evaluate(graph_, operands, {.round_f32 = false, .watch = watch});
    std::vector<Elements> errors;
    for (const ir::Output& output : graph_.outputs()) errors.push_back(error(output.value));
    return errors;
  }

  double elementwise_error(const ir::Node& node, size_t i, double y) const {
    const auto x = [&](size_t operand) { return value(node.inputs[operand]).data[i]; };
    const auto e = [&](size_t operand) { return error(node.inputs[operand])[i]; };
    const DType dtype = node.types[0].dtype;
    const double u = kFunction * accumulator(dtype);
    switch (node.op) {
      case Op::neg:
      case Op::abs:
      case Op::stop_gradient:
      case Op::convert:
        return e(0);
      case Op::exp:
        return (e(0) < 1.0 ? y * std::expm1(e(0)) : std::exp(x(0) + e(0))) + y * u;
      case Op::log:
        return e(0) / std::max(x(0) - e(0), 0.0) + u * std::abs(y);
      case Op::sqrt:
        return e(0) == 0.0 ? 0.0 : e(0) / std::sqrt(std::max(x(0), 0.0));
      case Op::rsqrt:
        return e(0) / std::max(x(0) - e(0), 0.0) * y + u * y;
      case Op::tanh:
        return e(0) * (1.0 - y * y + 2.0 * e(0)) + u * std::abs(y);
      case Op::erf: {
        const double nearest = std::max(std::abs(x(0)) - e(0), 0.0);
        return 1.13 * e(0) * std::exp(-nearest * nearest) + u * std::abs(y);
      }
      case Op::sin:
      case Op::cos:
        return e(0) + u;
      case Op::floor:
        return std::floor(x(0) - e(0)) == std::floor(x(0) + e(0)) ? 0.0 : 1.0;
      case Op::add:
      case Op::sub:
        return e(0) + e(1);
      case Op::mul:
        return std::abs(x(0)) * e(1) + std::abs(x(1)) * e(0) + e(0) * e(1);
      case Op::div:
        return (e(0) + std::abs(y) * e(1)) / std::max(std::abs(x(1)) - e(1), 0.0);
      case Op::max:
      case Op::min:
        return extreme_error(node.op, x(0), x(1), e(0), e(1));
      case Op::pow:
        return pow_error(x(0), x(1), e(0), e(1), u) * std::abs(y);
      case Op::logical_not:
        return e(0);
      case Op::logical_and:
      case Op::logical_or:
        return std::max(e(0), e(1));
      case Op::select:
        if (e(0) > 0.0) return std::abs(x(1) - x(2)) + std::max(e(1), e(2));
        return x(0) != 0.0 ? e(1) : e(2);
      default:
        break;
    }
    // A comparison is uncertain where the errors could change the order.
    ESPALIER_ASSERT(has_trait(node.op, ir::kComparison));
    const double both = e(0) + e(1);
    return both > 0.0 && std::abs(x(0) - x(1)) <= both ? 1.0 : 0.0;
  }

  /// How far max or min moves when both sides move by their errors.
  static double extreme_error(Op op, double a, double b, double ea, double eb) {
    const double sign = op == Op::max ? 1.0 : -1.0;
    const double y = std::max(sign * a, sign * b);
    const double up = std::max(sign * a + ea, sign * b + eb) - y;
    return std::max(up, y - std::max(sign * a - ea, sign * b - eb));
  }

  /// Relative error of a^b = exp(b log a).
  static double pow_error(double a, double b, double ea, double eb, double u) {
    const double log_a = std::abs(std::log(std::abs(a)));
    const double from_a = ea == 0.0 ? 0.0 : std::abs(b) * ea / std::max(std::abs(a) - ea, 0.0);
    const double from_b = eb == 0.0 ? 0.0 : log_a * eb;
    const double in_log = b == 0.0 || !std::isfinite(log_a) ? 0.0 : std::abs(b) * log_a * u;
    return std::expm1(from_a + from_b + in_log) + u;
  }

  /// The node's op on other elements in place of its operands.
  Elements apply(const ir::Node& node, const std::vector<const Elements*>& operands) const {
    std::vector<interp::DoubleTensor> tensors;
    for (size_t i = 0; i < operands.size(); ++i) {
      tensors.push_back({graph_.type(node.inputs[i]), *operands[i]});
    }
    const interp::Options options;
    interp::Call call{graph_, node, {}, options};
    for (const auto& tensor : tensors) call.in.push_back(&tensor);
    for (const auto& family : {interp::movement_kernels(), interp::contraction_kernels()}) {
      for (const interp::KernelRow& row : family) {
        if (row.op == node.op) return row.kernel(call)[0];
      }
    }
    fail(ErrorKind::internal, "budget", "no error rule for {}", name(node.op));
  }

  static Elements magnitude(const Elements& x) {
    Elements out = x;
    for (double& v : out) v = std::abs(v);
    return out;
  }

  Elements moved_errors(const ir::Node& node) const {
    std::vector<const Elements*> operands;
    for (ir::Value v : node.inputs) operands.push_back(&error(v));
    if (node.op == Op::gather) operands[1] = &value(node.inputs[1]).data;
    ir::Node moved = node;
    if (node.op == Op::pad) {  // its value is rounded once, as a constant is
      const double padding = node.attrs.real(ir::Attr::value);
      const double rounded = round_to(node.types[0].dtype, padding);
      moved.attrs.set(ir::Attr::value, std::abs(rounded - padding));
    }
    return apply(moved, operands);
  }

  /// x == broadcast(reduce_max(x)), which the gradient of reduce_max asks.
  bool is_largest_test(const ir::Node& node) const {
    if (node.op != Op::eq) return false;
    const ir::Node& spread = graph_.node(node.inputs[1].node);
    if (spread.op != Op::broadcast) return false;
    const ir::Node& top = graph_.node(spread.inputs[0].node);
    return top.op == Op::reduce_max && top.inputs[0] == node.inputs[0];
  }
  /// The largest element of a row equals the row's maximum whatever its error is: the test is
  /// uncertain only where two elements come within their errors of being the largest.
  Elements largest_test_errors(const ir::Node& node) const {
    const ir::Node& spread = graph_.node(node.inputs[1].node);
    const ir::Node& top = graph_.node(spread.inputs[0].node);
    const Elements& x = value(node.inputs[0]).data;
    const Elements& e = error(node.inputs[0]);
    Elements low = x;
    for (size_t i = 0; i < low.size(); ++i) low[i] -= e[i];
    const Elements row_low = apply(top, {&low});
    const Elements bound = apply(spread, {&row_low});
    Elements near(x.size());
    for (size_t i = 0; i < x.size(); ++i) near[i] = x[i] + e[i] >= bound[i] ? 1.0 : 0.0;
    ir::Node sum = top;
    sum.op = Op::reduce_sum;
    const Elements row_count = apply(sum, {&near});
    const Elements count = apply(spread, {&row_count});
    Elements errors(x.size());
    for (size_t i = 0; i < x.size(); ++i) {
      const bool certain =
          e[i] == 0.0 && x[i] == value(node.inputs[1]).data[i] && error(node.inputs[1])[i] == 0.0;
      errors[i] = near[i] > 0.0 && count[i] > 1.0 && !certain ? 1.0 : 0.0;
    }
    return errors;
  }

  Elements max_errors(const ir::Node& node, const Elements& top) const {
    Elements high = value(node.inputs[0]).data;
    Elements low = high;
    for (size_t i = 0; i < high.size(); ++i) {
      high[i] += error(node.inputs[0])[i];
      low[i] -= error(node.inputs[0])[i];
    }
    Elements errors = apply(node, {&high});
    const Elements lowest = apply(node, {&low});
    for (size_t i = 0; i < errors.size(); ++i) {
      errors[i] = top[i] == errors[i] ? 0.0 : std::max(errors[i] - top[i], top[i] - lowest[i]);
    }
    return errors;
  }

  Elements sum_errors(const ir::Node& node, size_t results) const {
    const size_t at = node.op == Op::scatter_add ? 1 : 0;
    const Elements terms = magnitude(value(node.inputs[at]).data);
    std::vector<const Elements*> operands{&error(node.inputs[at])};
    if (at == 1) operands.insert(operands.begin(), &value(node.inputs[0]).data);
    Elements errors = apply(node, operands);
    operands[at] = &terms;
    const Elements sums = apply(node, operands);
    const double count = static_cast<double>(terms.size()) /
                         (at == 1 ? 1.0 : static_cast<double>(std::max<size_t>(results, 1)));
    const double u = kSum * std::sqrt(count) * accumulator(node.types[0].dtype);
    for (size_t i = 0; i < errors.size(); ++i) errors[i] += u * sums[i];
    return errors;
  }

  /// |a| eb + ea |b| + ea eb + kSum sqrt(K) u |a| |b|, then bias, addend and activation.
  Elements dot_errors(const ir::Node& node) const {
    ir::Node product = node;
    product.op = Op::dot;
    for (auto key : {ir::Attr::activation, ir::Attr::bias, ir::Attr::accumulate}) {
      product.attrs.erase(key);
    }
    const ir::Value a = node.inputs[0];
    const ir::Value b = node.inputs[1];
    const Elements size_a = magnitude(value(a).data);
    const Elements size_b = magnitude(value(b).data);
    const Elements sizes = apply(product, {&size_a, &size_b});
    const Elements from_a = apply(product, {&error(a), &size_b});
    const Elements from_b = apply(product, {&size_a, &error(b)});
    const Elements from_both = apply(product, {&error(a), &error(b)});
    double inner = 1.0;
    for (int64_t axis : node.attrs.integers(ir::Attr::lhs_contract)) {
      inner *= static_cast<double>(graph_.type(a).shape[axis]);
    }
    const double u = accumulator(graph_.type(a).dtype);
    Elements errors(sizes.size());
    for (size_t i = 0; i < errors.size(); ++i) {
      errors[i] = from_a[i] + from_b[i] + from_both[i] + kSum * std::sqrt(inner) * u * sizes[i];
      for (size_t extra = 2; extra < node.inputs.size(); ++extra) {
        const Elements& more = value(node.inputs[extra]).data;
        const size_t at = i % more.size();
        errors[i] += error(node.inputs[extra])[at] + u * (std::abs(more[at]) + sizes[i]);
      }
      // Slopes of the activations are below 1.13; their functions add their own rounding.
      if (node.attrs.has(ir::Attr::activation)) errors[i] = 1.13 * errors[i] + 2 * u * sizes[i];
    }
    return errors;
  }

  ir::Graph graph_;
  std::vector<std::vector<interp::DoubleTensor>> values_;
  std::vector<std::vector<Elements>> errors_;
  std::vector<Elements> input_errors_;
};

/// Want and budget of every output.
inline Budgeted budgets(const ir::Graph& graph, std::span<const interp::DoubleTensor> inputs) {
  return BudgetAnalysis(decomposed(graph)).run(inputs);
}

}  // namespace espalier::testing
