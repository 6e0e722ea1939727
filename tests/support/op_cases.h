// SPDX-License-Identifier: Apache-2.0
// The table of op cases. Float operands have the dtype asked for; shapes are small, with sizes 1,
// primes and sizes around the widths of vectors.
#pragma once

#include "tests/support/op_case.h"

namespace espalier::testing {

/// Builds the table; one member function a family of ops.
class OpCases {
 public:
  explicit OpCases(DType dtype) : dtype_(dtype) {
    elementwise();
    movement();
    reductions();
    dots();
    rows();
    norms();
    attentions();
  }
  std::vector<OpCase> cases;

 private:
  using In = const std::vector<Tensor>&;
  using Out = std::vector<Tensor>;

  Operand real(Shape shape, Fill fill = Fill::normal) const {
    return {{dtype_, std::move(shape)}, fill};
  }
  static Operand index(DType dtype, Shape shape, int64_t high) {
    return {{dtype, std::move(shape)}, Fill::index, high};
  }
  static Operand mask(Shape shape) { return {{DType::boolean, std::move(shape)}, Fill::mask}; }
  static Operand seed() { return {{DType::i64, {}}, Fill::seed}; }

  /// The name gets the op and the operand types.
  void row(ir::Op op, std::vector<Operand> operands, std::function<Out(In)> build,
           const std::string& note = "") {
    std::string name(ir::name(op));
    for (const Operand& operand : operands) name += fmt::format(" {}", operand.type.str());
    if (!note.empty()) name += fmt::format(" {}", note);
    cases.push_back({std::move(name), op, std::move(operands), std::move(build)});
  }

  void elementwise() {
    using ir::Op;
    for (const Shape& shape : {Shape{}, Shape{1}, Shape{3, 5}, Shape{17}}) {
      const auto unary_row = [&](Op op, Fill fill) {
        row(op, {real(shape, fill)}, [op](In x) { return Out{unary(op, x[0])}; });
      };
      for (Op op : {Op::neg, Op::exp, Op::tanh, Op::erf, Op::sin, Op::cos, Op::stop_gradient}) {
        unary_row(op, Fill::normal);
      }
      for (Op op : {Op::log, Op::sqrt, Op::rsqrt}) unary_row(op, Fill::positive);
      for (Op op : {Op::abs, Op::floor}) unary_row(op, Fill::apart);
      const auto binary_row = [&](Op op, Fill lhs, Fill rhs) {
        row(op, {real(shape, lhs), real(shape, rhs)}, [op](In x) {
          return Out{{x[0].builder(), x[0].builder().add(op, {x[0].value(), x[1].value()})}};
        });
      };
      for (Op op : {Op::add, Op::sub, Op::mul}) binary_row(op, Fill::normal, Fill::normal);
      for (Op op : {Op::max, Op::min}) binary_row(op, Fill::normal, Fill::apart);
      binary_row(Op::div, Fill::normal, Fill::positive);
      binary_row(Op::pow, Fill::positive, Fill::normal);
      for (Op op : {Op::eq, Op::ne, Op::lt, Op::le, Op::gt, Op::ge}) {
        binary_row(op, Fill::normal, Fill::normal);
      }
      row(Op::select, {mask(shape), real(shape), real(shape)},
          [](In x) { return Out{select(x[0], x[1], x[2])}; });
      row(Op::convert, {real(shape)}, [](In x) { return Out{convert(x[0], DType::f64)}; });
      row(Op::logical_not, {mask(shape)}, [](In x) { return Out{logical_not(x[0])}; });
      row(Op::logical_and, {mask(shape), mask(shape)},
          [](In x) { return Out{logical_and(x[0], x[1])}; });
      row(Op::logical_or, {mask(shape), mask(shape)},
          [](In x) { return Out{logical_or(x[0], x[1])}; });
    }
    row(
        Op::pow, {real({4})}, [](In x) { return Out{pow(x[0], constant_like(x[0], 2.0))}; },
        "squared");
    row(
        Op::pow, {real({4})}, [](In x) { return Out{pow(x[0], constant_like(x[0], 0.0))}; },
        "to the 0");
    row(
        Op::mul, {real({2, 3}), real({3})}, [](In x) { return Out{x[0] * x[1] + x[0]}; },
        "broadcast, used twice");
    row(
        Op::max, {real({13}, Fill::apart)}, [](In x) { return Out{relu(x[0])}; }, "relu");
    row(
        Op::erf, {real({9})}, [](In x) { return Out{gelu(x[0])}; }, "gelu");
    row(
        Op::tanh, {real({9})}, [](In x) { return Out{gelu_tanh(x[0])}; }, "gelu_tanh");
    row(
        Op::random_uniform, {real({3, 7}), seed(), seed()},
        [](In x) {
          return Out{dropout(x[0], 0.3, {x[1], x[2]})};
        },
        "dropout");
    row(
        Op::random_uniform, {real({3, 7}), seed(), seed(), seed()},
        [](In x) {
          return Out{dropout(x[0], 0.3, {x[1], x[2], x[3]})};
        },
        "dropout in part of a batch");
  }

  void movement() {
    using ir::Op;
    row(Op::broadcast, {real({3})}, [](In x) { return Out{broadcast(x[0], {2, 3, 5}, {1})}; });
    row(Op::broadcast, {real({})}, [](In x) { return Out{broadcast(x[0], {4}, {})}; });
    row(
        Op::broadcast, {real({2, 1, 3})},
        [](In x) {
          return Out{broadcast_to(x[0], {4, 2, 5, 3})};
        },
        "size 1 grows");
    row(Op::reshape, {real({2, 6})}, [](In x) { return Out{reshape(x[0], {3, 1, 4})}; });
    row(Op::transpose, {real({2, 3, 4})}, [](In x) { return Out{transpose(x[0], {2, 0, 1})}; });
    row(Op::transpose, {real({1, 7})}, [](In x) { return Out{transpose(x[0], {1, 0})}; });
    row(Op::slice, {real({5, 3})}, [](In x) { return Out{slice(x[0], 0, 1, 4)}; });
    row(Op::slice, {real({1, 7})}, [](In x) { return Out{slice(x[0], 1, 6, 7)}; });
    row(Op::pad, {real({3, 2})}, [](In x) { return Out{pad(x[0], 0, 2, 1, -1.5)}; });
    row(Op::concat, {real({2, 1}), real({2, 3})}, [](In x) {
      return Out{concat({x[0], x[1]}, 1)};
    });
    row(
        Op::concat, {real({2, 2})},
        [](In x) {
          return Out{concat({x[0], x[0], x[0]}, 0)};
        },
        "one value three times");
  }

  void reductions() {
    using ir::Op;
    for (const auto& [shape, axes] :
         std::vector<std::pair<Shape, std::vector<int64_t>>>{{{5}, {0}},
                                                             {{3, 4}, {0}},
                                                             {{3, 4}, {1}},
                                                             {{2, 3, 5}, {0, 2}},
                                                             {{1, 1}, {1}},
                                                             {{3, 67}, {1}}}) {
      row(Op::reduce_sum, {real(shape)},
          [axes = axes](In x) { return Out{reduce_sum(x[0], axes)}; });
      row(Op::reduce_max, {real(shape, Fill::apart)},
          [axes = axes](In x) { return Out{reduce_max(x[0], axes)}; });
    }
    row(
        Op::reduce_sum, {real({2, 3})},
        [](In x) {
          return Out{mean(x[0], {0, 1})};
        },
        "mean");
  }

  void dots() {
    using ir::Op;
    const auto dot_row = [&](Shape lhs, Shape rhs, DotDims dims) {
      row(Op::dot, {real(std::move(lhs)), real(std::move(rhs))},
          [dims](In x) { return Out{dot(x[0], x[1], dims)}; });
    };
    dot_row({3, 4}, {4, 5}, {{}, {}, {1}, {0}});
    dot_row({4, 3}, {5, 4}, {{}, {}, {0}, {1}});
    dot_row({2, 3, 4}, {5, 4}, {{}, {}, {2}, {1}});
    dot_row({1, 17}, {17, 1}, {{}, {}, {1}, {0}});
    dot_row({3}, {3}, {{}, {}, {0}, {0}});
    dot_row({3}, {2}, {{}, {}, {}, {}});
    dot_row({2, 2, 3, 4}, {2, 2, 5, 4}, {{0, 1}, {0, 1}, {3}, {3}});
    dot_row({2, 2, 3, 5}, {2, 2, 5, 4}, {{0, 1}, {0, 1}, {3}, {2}});
    dot_row({4, 2, 3}, {3, 5, 2}, {{1}, {2}, {2}, {0}});
    dot_row({2, 3, 4}, {4, 3, 2}, {{}, {}, {0, 2}, {2, 0}});
    row(
        Op::dot, {real({2, 3, 5}), real({4, 5})}, [](In x) { return Out{linear(x[0], x[1])}; },
        "linear");
  }

  void rows() {
    using ir::Op;
    for (const Shape& shape : {Shape{6}, Shape{2, 3}, Shape{1}}) {
      row(Op::gather, {real({4, 3}), index(DType::i32, shape, 4)},
          [](In x) { return Out{gather(x[0], x[1])}; });
      Shape updates = shape;
      updates.push_back(3);
      row(Op::scatter_add, {index(DType::u8, shape, 4), real(updates)}, [](In x) {
        return Out{
            {x[0].builder(), x[0].builder().add(Op::scatter_add, {x[0].value(), x[1].value()},
                                                {{ir::Attr::rows, int64_t{5}}})}};
      });
    }
  }

  void norms() {
    using ir::Op;
    for (const Shape& shape : {Shape{2, 5}, Shape{2, 1, 3}, Shape{7}, Shape{3, 33}}) {
      const Shape width{shape[shape.rank() - 1]};
      row(Op::layer_norm, {real(shape), real(width), real(width)},
          [](In x) { return Out{layer_norm(x[0], x[1], x[2], 1e-5)}; });
      row(Op::rms_norm, {real(shape), real(width)},
          [](In x) { return Out{rms_norm(x[0], x[1], 1e-6)}; });
      row(Op::softmax, {real(shape)}, [](In x) { return Out{softmax(x[0])}; });
    }
    for (DType labels : {DType::i32, DType::i64, DType::u8}) {
      row(Op::softmax_cross_entropy, {real({2, 3, 7}), index(labels, {2, 3}, 7)},
          [](In x) { return Out{softmax_cross_entropy(x[0], x[1])}; });
    }
    row(
        Op::softmax_cross_entropy, {real({5, 4}), index(DType::i32, {5}, 9)},
        [](In x) { return Out{softmax_cross_entropy(x[0], x[1])}; }, "labels outside");
    row(Op::softmax_cross_entropy, {real({2, 256}), index(DType::u8, {2}, 256)},
        [](In x) { return Out{softmax_cross_entropy(x[0], x[1])}; });
  }

  struct AttentionSizes {
    int64_t queries, keys, heads, key_heads, size;
  };
  void attention_row(const AttentionSizes& n, const AttentionOptions& options, bool key_mask,
                     bool segments, const std::string& note, bool part = false) {
    std::vector<Operand> in{real({2, n.queries, n.heads, n.size}),
                            real({2, n.keys, n.key_heads, n.size}),
                            real({2, n.keys, n.key_heads, n.size})};
    if (key_mask) in.push_back(mask({2, n.keys}));
    if (segments) {
      in.push_back(index(DType::i32, {2, n.queries}, 2));
      in.push_back(index(DType::i32, {2, n.keys}, 2));
    }
    if (options.dropout > 0.0) in.insert(in.end(), {seed(), seed()});
    if (part) in.push_back(seed());
    const auto build = [options, key_mask, segments, part](In x) {
      AttentionOptions filled = options;
      size_t next = 3;
      if (key_mask) filled.key_mask = x[next++];
      if (segments) {
        filled.segments_q = x[next++];
        filled.segments_k = x[next++];
      }
      if (options.dropout > 0.0) filled.rng = {x[next], x[next + 1]};
      if (part) filled.rng.part = x[next + 2];
      const Tensor out = scaled_dot_product_attention(x[0], x[1], x[2], filled);
      return Out{out};
    };
    row(ir::Op::attention, std::move(in), build, note);
  }

  void attentions() {
    const AttentionOptions plain;
    const AttentionOptions causal{.causal = true};
    attention_row({3, 4, 2, 2, 3}, plain, false, false, "plain");
    attention_row({1, 1, 1, 1, 1}, plain, false, false, "of size 1");
    attention_row({4, 4, 2, 2, 2}, causal, false, false, "causal");
    attention_row({2, 5, 2, 2, 2}, causal, false, false, "causal with a past");
    attention_row({5, 2, 1, 1, 2}, causal, false, false, "causal, first queries see nothing");
    attention_row({3, 3, 4, 2, 2}, {.scale = 0.7}, false, false, "grouped, scaled");
    attention_row({3, 5, 2, 1, 2}, plain, true, false, "key mask");
    attention_row({4, 5, 2, 1, 2}, plain, false, true, "segments");
    attention_row({3, 4, 2, 2, 2}, {.dropout = 0.4}, false, false, "dropout");
    attention_row({3, 4, 2, 2, 2}, {.dropout = 0.4}, false, false, "dropout in part of a batch",
                  true);
    attention_row({4, 4, 4, 2, 3}, {.causal = true, .dropout = 0.25}, true, true, "everything");
  }

  DType dtype_;
};

inline std::vector<OpCase> op_cases(DType dtype = DType::f32) { return OpCases(dtype).cases; }

}  // namespace espalier::testing
