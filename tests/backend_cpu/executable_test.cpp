// SPDX-License-Identifier: Apache-2.0
#include "espalier/backend/executable.h"
#include "espalier/ir/tensor.h"
#include "tests/backend_cpu/run_graph.h"

namespace espalier {
namespace {

using ir::Builder;
using testing::expect_cpu_matches_interp;

Tensor input(Builder& b, const std::string& name, Shape shape, DType dtype = DType::f32,
             const std::string& role = "batch") {
  return {b, b.input(name, {dtype, std::move(shape)}, role)};
}
void output(const std::string& name, Tensor t) { t.builder().output(name, t.value()); }

TEST(Executable, LinearWithBias) {
  Builder b;
  const Tensor x = input(b, "x", {3, 5, 16});
  const Tensor w = input(b, "w", {24, 16});
  const Tensor bias = input(b, "bias", {24});
  output("y", linear(x, w) + bias);
  output("z", relu(linear(x, w) + bias) * 2.0);
  expect_cpu_matches_interp(b.finish());
}

TEST(Executable, LayerNormAndItsRowValues) {
  Builder b;
  const Tensor x = input(b, "x", {4, 7, 33});
  output("y", layer_norm(x, input(b, "w", {33}), input(b, "bias", {33}), 1e-5));
  output("mean", mean(x, {-1}));
  expect_cpu_matches_interp(b.finish());
}

TEST(Executable, SoftmaxCrossEntropy) {
  Builder b;
  const Tensor logits = input(b, "logits", {4, 7, 19});
  const Tensor labels = input(b, "labels", {4, 7}, DType::u8);
  output("loss", mean(softmax_cross_entropy(logits, labels), {0, 1}));
  output("p", softmax(logits));
  expect_cpu_matches_interp(b.finish());
}

TEST(Executable, SumsOverEveryKindOfAxis) {
  Builder b;
  const Tensor x = input(b, "x", {6, 5, 40});
  output("all", reduce_sum(x, {0, 1, 2}));
  output("columns", reduce_sum(x * x, {0, 1}));
  output("first", reduce_sum(x, {0}));
  output("middle", reduce_sum(x, {1}));
  output("last", reduce_sum(x, {2}));
  output("max_first", reduce_max(x, {0}));
  output("max_all", reduce_max(x, {0, 1, 2}));
  expect_cpu_matches_interp(b.finish());
}

TEST(Executable, ViewsPadsAndConcats) {
  Builder b;
  const Tensor x = input(b, "x", {4, 6, 10});
  const Tensor t = transpose(x, {2, 0, 1});
  output("t", t + 1.0);
  output("r", reshape(t, {10, 24}) * 2.0);
  output("s", slice(x, 1, 2, 5));
  output("p", pad(slice(x, 1, 0, 5), 1, 1, 0));
  output("c", concat({slice(x, 2, 0, 3) * 2.0, slice(x, 2, 3, 10)}, 2));
  expect_cpu_matches_interp(b.finish());
}

TEST(Executable, AttentionFlashAndNot) {
  for (const bool flash : {true, false}) {
    Builder b;
    const Tensor qkv = input(b, "qkv", {2, 9, 3, 4, 8});
    const auto part = [&](int64_t i) { return reshape(slice(qkv, 2, i, i + 1), {2, 9, 4, 8}); };
    output("y", scaled_dot_product_attention(part(0), part(1), part(2), {.causal = true}));
    const ir::Graph graph = b.finish();
    CompileOptions options;
    options.flash = flash;
    expect_cpu_matches_interp(graph, options);
  }
}

TEST(Executable, DropoutDrawsTheSameNumbersAsTheInterpreter) {
  Builder b;
  const Tensor x = input(b, "x", {5, 64});
  const RngState rng{input(b, "seed", {}, DType::i64), input(b, "step", {}, DType::i64)};
  output("y", dropout(relu(x), 0.3, rng));
  output("sum", reduce_sum(dropout(x, 0.3, rng), {0}));
  expect_cpu_matches_interp(b.finish());
}

TEST(Executable, StateIsUpdatedInPlace) {
  Builder b;
  const Tensor p = input(b, "p", {40, 3}, DType::f32, "parameter");
  const Tensor m = input(b, "m", {40, 3}, DType::f32, "state");
  const Tensor step = input(b, "step", {}, DType::i64, "state");
  const Tensor g = input(b, "g", {40, 3});
  const Tensor m2 = m * 0.9 + g * 0.1;
  const Tensor count = convert(step, DType::f32) + 1.0;
  b.output("p", (p - m2 / broadcast_to(count, p.shape())).value(), p.value());
  b.output("m", m2.value(), m.value());
  b.output("step", (step + 1.0).value(), step.value());
  expect_cpu_matches_interp(b.finish());
}

TEST(Executable, ConstantWeightsArePackedAgainAfterTheyChange) {
  Builder b;
  const Tensor x = input(b, "x", {37, 16});
  const Tensor w = input(b, "w", {40, 16}, DType::f32, "parameter");
  output("y", linear(x, w));
  const ir::Graph graph = b.finish();
  expect_cpu_matches_interp(graph);
  const std::string fused = dump_stage(graph, {}, "prepack");
  EXPECT_NE(fused.find("packed=1"), std::string::npos) << fused;

  const auto executable = cpu::make_cpu_executable(graph, {.threads = 2});
  std::vector<float> ones(37 * 16, 1.0f);
  executable->set_input(executable->input_index("x"), ones.data());
  for (const float value : {1.0f, 2.0f}) {
    HostTensor weight = executable->state("w");
    for (float& v : weight.as<float>()) v = value;
    executable->run();
    EXPECT_EQ(executable->output("y").get(5), 16.0 * value);
  }
}

TEST(Executable, UnfusedGivesTheSame) {
  Builder b;
  const Tensor x = input(b, "x", {4, 7, 33});
  const Tensor y = layer_norm(x, input(b, "w", {33}), input(b, "bias", {33}), 1e-5);
  output("y", y);
  output("g", reduce_sum(gelu(y) * x, {0, 1}));
  CompileOptions options;
  options.fuse = false;
  expect_cpu_matches_interp(b.finish(), options);
}

TEST(Executable, GatherAndMixedPrecision) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    Builder b;
    const Tensor table = input(b, "table", {7, 16});
    const Tensor rows = gather(table, input(b, "i", {3, 4}, DType::u8));
    output("y", linear(rows, input(b, "w", {8, 16})));
    CompileOptions options;
    options.compute_dtype = dtype;
    // One rounding of each operand: 2 u for a product, and sums of 16 of them.
    expect_cpu_matches_interp(b.finish(), options,
                              dtype == DType::f32 ? 1e-6 : 4 * unit_roundoff(dtype));
  }
}

}  // namespace
}  // namespace espalier
