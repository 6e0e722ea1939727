// SPDX-License-Identifier: Apache-2.0
#include "tests/backend_jit/model_loops.h"

namespace espalier::cpu {

using plan::InnerStride;
using plan::LoopOp;
using plan::LoopSpace;

plan::Loop softmax_loop(DType dtype) {
  LoopBuilder b(1);
  int x = b.load(dtype);
  if (dtype != DType::f32) x = b.convert(x, DType::f32);
  const int e = b.op(LoopOp::exp, b.op(LoopOp::sub, x, b.op(LoopOp::row_max, x)));
  b.store(b.op(LoopOp::div, e, b.op(LoopOp::row_sum, e)), dtype);
  return b.loop;
}

plan::Loop layer_norm_loop(DType dtype) {
  LoopBuilder b(2);
  const int x = b.op(LoopOp::add, b.load(DType::f32), b.convert(b.load(dtype), DType::f32));
  b.store(x, DType::f32);
  const int scale = b.load(DType::f32, InnerStride::none, false);  // 1 / n
  const int mean = b.op(LoopOp::mul, b.op(LoopOp::row_sum, x), scale);
  const int centred = b.op(LoopOp::sub, x, mean);
  const int square = b.op(LoopOp::row_sum, b.op(LoopOp::mul, centred, centred));
  const int variance = b.op(LoopOp::abs, b.op(LoopOp::mul, square, scale));
  const int rstd = b.op(LoopOp::rsqrt, b.op(LoopOp::add, variance, b.constant(DType::f32, 1e-5)));
  b.store(mean, DType::f32, InnerStride::none);
  b.store(rstd, DType::f32, InnerStride::none);
  const int gain = b.load(DType::f32, InnerStride::unit, false);
  const int bias = b.load(DType::f32, InnerStride::unit, false);
  const int y = b.op(LoopOp::mul, b.op(LoopOp::mul, centred, rstd), gain);
  b.store(b.convert(b.op(LoopOp::add, y, bias), dtype), dtype);
  return b.loop;
}

plan::Loop layer_norm_backward_loop() {
  LoopBuilder b(1);
  const int x = b.load(DType::f32), dy = b.load(DType::f32);
  const int mean = b.load(DType::f32, InnerStride::none),
            rstd = b.load(DType::f32, InnerStride::none);
  const int gain = b.load(DType::f32, InnerStride::unit, false);
  const int n = b.load(DType::f32, InnerStride::none, false);
  const int hat = b.op(LoopOp::mul, b.op(LoopOp::sub, x, mean), rstd);
  b.accumulate(b.op(LoopOp::mul, dy, hat), DType::f32, InnerStride::unit, false);
  b.accumulate(dy, DType::f32, InnerStride::unit, false);
  const int g = b.op(LoopOp::mul, dy, gain);
  const int s1 = b.op(LoopOp::mul, b.op(LoopOp::row_sum, g), n);
  const int s2 = b.op(LoopOp::mul, b.op(LoopOp::row_sum, b.op(LoopOp::mul, g, hat)), n);
  const int inner = b.op(LoopOp::sub, b.op(LoopOp::sub, g, s1), b.op(LoopOp::mul, hat, s2));
  b.store(b.op(LoopOp::mul, inner, rstd), DType::f32);
  return b.loop;
}

plan::Loop dropout_loop() {
  LoopBuilder b(0);
  const int x = b.load(DType::f32);
  const int seed = b.load(DType::i64, InnerStride::none),
            step = b.load(DType::i64, InnerStride::none);
  const int u = b.uniform(seed, step, b.index(), 1);
  const int keep = b.compare(LoopOp::ge, u, b.constant(DType::f32, 0.1));
  const int zero = b.constant(DType::f32, 0.0);
  const int relu = b.op(LoopOp::max, x, zero);
  const int scaled = b.op(LoopOp::mul, relu, b.constant(DType::f32, 1 / 0.9));
  b.store(b.inst(LoopOp::select, DType::f32, {keep, scaled, zero}), DType::f32);
  return b.loop;
}

plan::Loop cross_entropy_loop() {
  LoopBuilder b(1);
  const int x = b.convert(b.load(DType::bf16), DType::f32);
  const int label = b.convert(b.load(DType::i32, InnerStride::none), DType::i64);
  const int weight = b.load(DType::f32, InnerStride::none, false);
  const int m = b.op(LoopOp::row_max, x);
  const int e = b.op(LoopOp::exp, b.op(LoopOp::sub, x, m));
  const int sum = b.op(LoopOp::row_sum, e);
  const int hit = b.compare(LoopOp::eq, b.index(false), label);
  const int zero = b.constant(DType::f32, 0.0);
  const int picked = b.op(LoopOp::row_sum, b.inst(LoopOp::select, DType::f32, {hit, x, zero}));
  const int loss = b.op(LoopOp::sub, b.op(LoopOp::add, b.op(LoopOp::log, sum), m), picked);
  b.accumulate(loss, DType::f32, InnerStride::none, false, LoopSpace::row);
  const int p = b.op(LoopOp::div, e, sum);
  const int target = b.convert(hit, DType::f32);
  const int g = b.op(LoopOp::mul, b.op(LoopOp::sub, p, target), weight);
  b.store(b.convert(g, DType::bf16), DType::bf16);
  return b.loop;
}

plan::Loop adam_loop() {
  LoopBuilder b(0);
  const auto c = [&](double value) { return b.constant(DType::f32, value); };
  const int p = b.load(DType::f32), m = b.load(DType::f32), v = b.load(DType::f32);
  const int g = b.load(DType::f32);
  const int lr = b.load(DType::f32, InnerStride::none);
  const int t = b.op(LoopOp::abs, b.load(DType::f32, InnerStride::none));
  const int m1 = b.op(LoopOp::add, b.op(LoopOp::mul, m, c(0.9)), b.op(LoopOp::mul, g, c(0.1)));
  const int g2 = b.op(LoopOp::mul, g, g);
  const int old = b.op(LoopOp::mul, b.op(LoopOp::abs, v), c(0.999));
  const int v1 = b.op(LoopOp::add, old, b.op(LoopOp::mul, g2, c(0.001)));
  const int one = c(1.0);
  const int c1 = b.op(LoopOp::sub, one, b.op(LoopOp::pow, c(0.9), t));
  const int c2 = b.op(LoopOp::sub, one, b.op(LoopOp::pow, c(0.999), t));
  const int root = b.op(LoopOp::sqrt, b.op(LoopOp::div, v1, c2));
  const int update = b.op(LoopOp::div, b.op(LoopOp::div, m1, c1), b.op(LoopOp::add, root, c(1e-8)));
  b.store(b.op(LoopOp::sub, p, b.op(LoopOp::mul, lr, update)), DType::f32);
  b.store(m1, DType::f32);
  b.store(v1, DType::f32);
  return b.loop;
}

plan::Loop gelu_loop(DType dtype) {
  LoopBuilder b(2);
  const int x = b.convert(b.load(dtype), DType::f32);
  const int h = b.op(LoopOp::add, x, b.load(DType::f32, InnerStride::unit, false));
  const int phi =
      b.op(LoopOp::erf, b.op(LoopOp::mul, h, b.constant(DType::f32, 0.70710678118654752)));
  const int half = b.op(LoopOp::mul, h, b.constant(DType::f32, 0.5));
  const int y = b.op(LoopOp::mul, half, b.op(LoopOp::add, phi, b.constant(DType::f32, 1.0)));
  b.store(b.convert(y, dtype), dtype);
  return b.loop;
}

std::vector<std::pair<std::string, plan::Loop>> model_loops() {
  return {{"softmax", softmax_loop(DType::f32)},
          {"softmax bf16", softmax_loop(DType::bf16)},
          {"layer norm", layer_norm_loop(DType::bf16)},
          {"layer norm backward", layer_norm_backward_loop()},
          {"dropout", dropout_loop()},
          {"cross-entropy", cross_entropy_loop()},
          {"adam", adam_loop()},
          {"gelu f32", gelu_loop(DType::f32)},
          {"gelu bf16", gelu_loop(DType::bf16)},
          {"gelu f16", gelu_loop(DType::f16)}};
}

}  // namespace espalier::cpu
