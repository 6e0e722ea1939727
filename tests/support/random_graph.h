// SPDX-License-Identifier: Apache-2.0
// Random graphs for tests of passes and backends: a pass must not change what a graph means.
//
// Values stay moderate (products and dots take tanh of one side, quotients have denominators >= 1),
// so that a reassociated sum differs by a few units in the last place only.
#pragma once

#include "espalier/autodiff/grad.h"
#include "tests/support/op_case.h"

namespace espalier::testing {

struct RandomGraphOptions {
  int steps = 25;
  bool composites = true;      // layer_norm, rms_norm, softmax, softmax_cross_entropy, attention
  bool random = true;          // random_uniform, dropout
  bool gradients = false;      // also a loss and its gradients of all float inputs
  bool training = false;       // and an optimizer's step: parameters and moments change in place
  bool low_precision = false;  // conversions to bf16 and back
};

/// Builds one graph. Inputs are floats, "ids" (indices 0 to 3), "seed" and "step".
class RandomGraph {
 public:
  RandomGraph(uint64_t seed, RandomGraphOptions options) : random_(seed, 7), options_(options) {}

  ir::Graph build() {
    state_ = input("state", {DType::f32, {3, 4}}, "state");
    for (const Shape& shape : {Shape{2, 3, 4}, Shape{4}, Shape{3, 1}, Shape{}, Shape{4, 5}}) {
      values_.push_back(input(fmt::format("x{}", values_.size()), {DType::f32, shape}, "batch"));
    }
    values_.push_back(state_);
    ids_ = input("ids", {DType::i32, {3}}, "batch");
    seed_ = input("seed", {DType::i64, {}}, "scalar");
    step_ = input("step", {DType::i64, {}}, "scalar");
    const std::vector<Tensor> inputs = values_;
    if (options_.training) {
      for (int i = 0; i < 2; ++i) values_.push_back(linear_step(values_[0]));
    }
    for (int i = 0; i < options_.steps; ++i) step();
    outputs(inputs);
    return builder_.finish();
  }

 private:
  static constexpr int64_t kLargest = 400;  // elements of a value

  Tensor input(const std::string& name, ir::TensorType type, const std::string& role) {
    return {builder_, builder_.input(name, std::move(type), role)};
  }
  Tensor any() { return random_.pick(values_); }
  int64_t below(int64_t count) { return random_.integer(0, count); }
  int64_t axis(const Tensor& x) { return below(x.rank()); }
  /// A value with at least `rank` axes, the last one not empty.
  Tensor with_rank(int64_t rank) {
    Tensor x = any();
    for (int tries = 0; tries < 20 && x.rank() < rank; ++tries) x = any();
    return x.rank() >= rank ? x : broadcast_to(x, rank == 2 ? Shape{3, 4} : Shape{2, 3, 4});
  }
  /// A value that broadcasts with x.
  Tensor like(const Tensor& x) {
    for (int tries = 0; tries < 10; ++tries) {
      const Tensor y = any();
      if (y.rank() <= x.rank() && broadcasts(y.shape(), x.shape())) return y;
    }
    return random_.uniform() < 0.5 ? constant_like(x, random_.pick(constants_)) : sin(x);
  }
  static Tensor sin(Tensor x) { return unary(ir::Op::sin, x); }
  static bool broadcasts(const Shape& from, const Shape& to) {
    for (int64_t i = 1; i <= from.rank(); ++i) {
      const int64_t size = from[from.rank() - i];
      if (size != 1 && size != to[to.rank() - i]) return false;
    }
    return true;
  }

  void step() {
    const std::string scope = below(3) == 0 ? "" : fmt::format("layers.{}", below(3));
    builder_.set_scope(scope);
    const int64_t kind = below(options_.composites ? 12 : 10);
    Tensor made;
    if (kind < 2) {
      made = unary_step();
    } else if (kind < 5) {
      made = binary_step(any());
    } else if (kind < 7) {
      made = movement_step();
    } else if (kind < 8) {
      made = reduce_step();
    } else if (kind < 9) {
      made = dot_step();
    } else if (kind < 10) {
      made = other_step();
    } else {
      made = composite_step();
    }
    builder_.set_scope("");
    if (made.shape().numel() <= kLargest) values_.push_back(made);
  }

  Tensor unary_step() {
    const Tensor x = any();
    switch (below(12)) {
      case 0:
        return -x;
      case 1:
        return tanh(x);
      case 2:
        return erf(x);
      case 3:
        return sin(x);
      case 4:
        return unary(ir::Op::cos, x);
      case 5:
        return abs(x);
      case 6:
        return exp(-abs(x));
      case 7:
        return log(x * 0.0 + abs(x) + 1.0);
      case 8:
        return sqrt(abs(x) + 1.0);
      case 9:
        return rsqrt(tanh(x) * tanh(x) + 0.5);
      case 10:
        return stop_gradient(x);
      default:
        return gelu_tanh(tanh(x));
    }
  }

  Tensor binary_step(Tensor x) {
    const Tensor y = like(x);
    switch (below(9)) {
      case 0:
        return x - y;
      case 1:
        return tanh(x) * y;
      case 2:
        return x / (abs(y) + 1.0);
      case 3:
        return maximum(x, y);
      case 4:
        return minimum(x, y);
      case 5:
        return select(compare(random_.pick(comparisons_), x, y), x, y * 0.5);
      case 6:
        return (x + 0.0) * 1.0 + (x + y);
      case 7:
        return relu(x) + pow(abs(tanh(y)) + 0.5, constant_like(y, 2.0));
      default:
        return x + y;
    }
  }

  Tensor movement_step() {
    const Tensor x = with_rank(1);
    const int64_t at = axis(x);
    const int64_t size = x.size(at);
    switch (below(6)) {
      case 0:
        return reshape(x, {-1});
      case 1: {
        std::vector<int64_t> order(static_cast<size_t>(x.rank()));
        std::iota(order.begin(), order.end(), 0);
        random_.shuffle(order);
        return transpose(x, order);
      }
      case 2:
        return slice(x, at, below(size), size);
      case 3:
        return pad(x, at, below(2), 1, random_.pick(constants_));
      case 4:
        return concat({x, x, tanh(x)}, at);
      default: {
        Shape larger{2};
        for (int64_t s : x.shape()) larger.push_back(s);
        return broadcast_to(x, larger);
      }
    }
  }

  Tensor reduce_step() {
    const Tensor x = with_rank(1);
    const bool keep = below(2) == 0;
    std::vector<int64_t> axes{axis(x)};
    if (x.rank() > 1 && below(3) == 0) axes = {0, x.rank() - 1};
    switch (below(3)) {
      case 0:
        return reduce_max(x, axes, keep);
      case 1:
        return reduce_sum(x, axes, keep) * 0.25;
      default:
        return mean(x, axes, keep);
    }
  }

  Tensor dot_step() {
    const Tensor x = with_rank(2);
    const int64_t last = x.rank() - 1;
    switch (below(3)) {
      case 0: {  // with itself, batched over the first axis
        const DotDims dims{{0}, {0}, {last}, {last}};
        return dot(tanh(x), x, dims) * 0.3;
      }
      case 1:
        return dot(tanh(x), x, {{}, {}, {0}, {0}}) * 0.3;
      default:
        return linear_step(x);
    }
  }

  Tensor linear_step(Tensor x) {
    const Tensor w = input(fmt::format("w{}", builder_.graph().nodes().size()),
                           {DType::f32, {3, x.size(-1)}}, "parameter");
    weights_.push_back(w);
    return linear(x, tanh(w)) * 0.3;
  }

  Tensor other_step() {
    const Tensor x = with_rank(2);
    switch (below(options_.random ? 5 : 3)) {
      case 0: {
        Tensor table = reshape(x, {-1, x.size(-1)});
        if (table.size(0) < 4) table = pad(table, 0, 0, 4 - table.size(0));
        return gather(table, ids_);
      }
      case 1: {
        const Tensor updates =
            broadcast_to(mean(reshape(x, {-1, x.size(-1)}), {0}), {3, x.size(-1)});
        return {builder_, builder_.add(ir::Op::scatter_add, {ids_.value(), updates.value()},
                                       {{ir::Attr::rows, int64_t{4}}})};
      }
      case 2:
        if (options_.low_precision) return convert(convert(x, DType::bf16), DType::f32);
        return x + convert(iota(builder_, DType::i32, x.shape(), 0), DType::f32);
      case 3:
        return dropout(x, 0.25, {seed_, step_});
      default: {
        const Tensor u = random_uniform(seed_, step_, x.shape(), builder_.random_stream());
        return x + u;
      }
    }
  }

  Tensor composite_step() {
    const Tensor x = with_rank(2);
    const auto row = [&] { return reshape(slice(reshape(tanh(x), {-1}), 0, 0, x.size(-1)), {-1}); };
    switch (below(5)) {
      case 0:
        return layer_norm(x, row(), row() * 0.5, 1e-2);
      case 1:
        return rms_norm(x, row(), 1e-2);
      case 2:
        return softmax(x);
      case 3: {
        const Tensor logits =
            broadcast_to(mean(reshape(x, {-1, x.size(-1)}), {0}, true), {3, x.size(-1)});
        return softmax_cross_entropy(logits, ids_);
      }
      default: {
        const Tensor q = reshape(slice(any_block(), 0, 0, 24), {1, 3, 4, 2});
        return reshape(scaled_dot_product_attention(q, tanh(q), q, {.causal = below(2) == 0}),
                       {12, 2});
      }
    }
  }
  /// At least 24 elements.
  Tensor any_block() {
    const Tensor x = reshape(any(), {-1});
    const int64_t copies = 24 / std::max<int64_t>(1, x.size(0)) + 1;
    return concat(std::vector<Tensor>(static_cast<size_t>(copies), x), 0);
  }

  void outputs(const std::vector<Tensor>& inputs) {
    const size_t count = values_.size();
    for (size_t i = count - std::min<size_t>(count, 3); i < count; ++i) {
      builder_.output(fmt::format("y{}", i), values_[i].value());
    }
    for (int i = 0; i < 2; ++i) builder_.output(fmt::format("z{}", i), any().value());
    if (options_.gradients || options_.training) gradient_outputs(inputs);
    builder_.output("state",
                    (state_ * 0.5 + broadcast_to(mean_all(values_.back()), {3, 4})).value(),
                    state_.value());
  }

  static Tensor mean_all(Tensor x) { return x.rank() == 0 ? x : mean(reshape(x, {-1}), {0}); }

  void gradient_outputs(const std::vector<Tensor>& inputs) {
    Tensor loss = constant(builder_, 0.0);
    for (size_t i = values_.size() - 3; i < values_.size(); ++i) {
      loss = loss + mean_all(sin(values_[i]));
    }
    std::vector<ir::Value> wrt;
    for (const Tensor& x : inputs) wrt.push_back(x.value());
    for (const Tensor& x : weights_) wrt.push_back(x.value());
    builder_.output("loss", loss.value());
    const std::vector<ir::Value> gradients = autodiff::gradients(builder_, loss.value(), wrt);
    if (options_.training) {
      update(std::span(gradients).last(weights_.size()));
      return;
    }
    int count = 0;
    for (ir::Value g : gradients) builder_.output(fmt::format("g{}", count++), g);
  }

  /// Clips by the global norm, then moves the weights as Adam does.
  void update(std::span<const ir::Value> gradients) {
    Tensor squares = constant(builder_, 1e-3);
    for (ir::Value v : gradients) {
      const Tensor g(builder_, v);
      squares = squares + reduce_sum(g * g, {0, 1});
    }
    const Tensor scale = minimum(constant(builder_, 1.0), rsqrt(squares) * 0.5);
    for (size_t i = 0; i < weights_.size(); ++i) {
      const Tensor w = weights_[i];
      const ir::TensorType type{DType::f32, w.shape()};
      const Tensor m = input(fmt::format("m{}", i), type, "state");
      const Tensor v = input(fmt::format("v{}", i), type, "state");
      const Tensor g = Tensor(builder_, gradients[i]) * broadcast_to(scale, w.shape());
      const Tensor moment = m * 0.9 + g * 0.1;
      const Tensor square = abs(v) * 0.99 + g * g * 0.01;
      const auto replace = [&](const char* name, Tensor with, Tensor what) {
        builder_.output(fmt::format("{}{}", name, i), with.value(), what.value());
      };
      replace("m", moment, m);
      replace("v", square, v);
      replace("w", w - moment * 0.01 / (sqrt(square) + 1e-3), w);
    }
  }

  ir::Builder builder_{"random"};
  Random random_;
  RandomGraphOptions options_;
  std::vector<Tensor> values_;
  std::vector<Tensor> weights_;
  Tensor state_, ids_, seed_, step_;
  const std::vector<double> constants_{0.0, 1.0, -1.0, 0.5, 2.0, 0.1};
  const std::vector<ir::Op> comparisons_ = [] {
    std::vector<ir::Op> ops;
    for (auto op : {ir::Op::eq, ir::Op::ne, ir::Op::lt, ir::Op::le, ir::Op::gt, ir::Op::ge}) {
      ops.push_back(op);
    }
    return ops;
  }();
};

inline ir::Graph random_graph(uint64_t seed, const RandomGraphOptions& options = {}) {
  return RandomGraph(seed, options).build();
}

/// Inputs for any graph: normal floats (rounded to their dtype), integers 0 to 3, random masks.
inline std::vector<interp::DoubleTensor> random_inputs(const ir::Graph& graph, uint64_t seed) {
  std::vector<interp::DoubleTensor> inputs;
  for (int32_t id : graph.inputs()) {
    const ir::TensorType& type = graph.node(id).types[0];
    Operand operand{type, Fill::index, 4};
    if (is_float(type.dtype)) operand.fill = Fill::normal;
    if (type.dtype == DType::boolean) operand.fill = Fill::mask;
    inputs.push_back(fill_operand(operand, Random(seed, inputs.size())));
  }
  return inputs;
}

}  // namespace espalier::testing
