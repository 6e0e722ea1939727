// SPDX-License-Identifier: Apache-2.0
#include "espalier/backend/cpu/attention/bench.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>
#include <memory>
#include <new>

#include "espalier/base/error.h"
#include "espalier/base/rng.h"

namespace espalier::cpu {
namespace {

constexpr std::align_val_t kAlignment{64};

struct Free {
  void operator()(char* p) const { ::operator delete[](p, kAlignment); }
};
using Bytes = std::unique_ptr<char[], Free>;

Bytes allocate(int64_t bytes) {
  return Bytes(static_cast<char*>(::operator new[](static_cast<size_t>(bytes), kAlignment)));
}

/// `count` elements, uniform in [-1, 1).
Bytes random_elements(DType dtype, int64_t count, uint64_t seed) {
  Bytes bytes = allocate(count * size_of(dtype));
  const RngKey key = rng_key(seed, 0, 0);
  for (int64_t i = 0; i < count; ++i) {
    const float value = 2.0f * rng_uniform(key, static_cast<uint64_t>(i)) - 1.0f;
    if (dtype == DType::f32) {
      std::memcpy(bytes.get() + i * 4, &value, 4);
    } else {
      const uint16_t bits = dtype == DType::bf16 ? to_bf16(value) : to_f16(value);
      std::memcpy(bytes.get() + i * 2, &bits, 2);
    }
  }
  return bytes;
}

template <typename F>
double seconds_of(F f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

AttentionBenchResult bench_attention(AttentionParams p, int threads, double seconds) {
  ESPALIER_CHECK(p.kv_heads == p.heads && p.seq_q == p.seq_k, ErrorKind::user, "bench",
                 "attention of one length and one number of heads is measured, not seq {}x{} with "
                 "{} and {} heads",
                 p.seq_q, p.seq_k, p.heads, p.kv_heads);
  const int64_t width = p.heads * p.head_dim;
  const AttentionStrides three{3 * p.seq_q * width, p.head_dim, 3 * width};
  p.q = p.k = p.v = p.dq = p.dk = p.dv = three;
  p.out = p.dout = attention_strides(p.seq_q, p.heads, p.head_dim);
  check_attention(p);

  const int64_t rows = p.batch * p.seq_q;
  const Bytes qkv = random_elements(p.dtype, rows * 3 * width, 1);
  const Bytes dqkv = random_elements(p.grad_dtype, rows * 3 * width, 2);
  const Bytes out = random_elements(p.out_dtype, rows * width, 3);
  const Bytes dout = random_elements(p.out_dtype, rows * width, 4);
  const Bytes lse = random_elements(DType::f32, rows * p.heads, 5);
  const Bytes scratch = allocate(
      std::max(attention_forward_scratch(p, threads), attention_backward_scratch(p, threads)));
  const auto part = [&](const Bytes& bytes, DType dtype, int64_t i) {
    return bytes.get() + i * width * size_of(dtype);
  };
  float* const lse_values = reinterpret_cast<float*>(lse.get());

  AttentionBenchResult result;
  result.forward_seconds = result.backward_seconds = std::numeric_limits<double>::infinity();
  const double pairs = static_cast<double>(p.batch * p.heads) * static_cast<double>(p.seq_q) *
                       static_cast<double>(p.seq_k) / (p.causal ? 2.0 : 1.0);
  result.forward_flops = 4.0 * pairs * static_cast<double>(p.head_dim);
  result.backward_flops = 2.0 * result.forward_flops;
  double spent = 0.0;
  while (spent < seconds) {
    const double forward = seconds_of([&] {
      attention_forward(p, qkv.get(), part(qkv, p.dtype, 1), part(qkv, p.dtype, 2), out.get(),
                        lse_values, scratch.get(), threads);
    });
    const double backward = seconds_of([&] {
      attention_backward(p, qkv.get(), part(qkv, p.dtype, 1), part(qkv, p.dtype, 2), out.get(),
                         lse_values, dout.get(), dqkv.get(), part(dqkv, p.grad_dtype, 1),
                         part(dqkv, p.grad_dtype, 2), scratch.get(), threads);
    });
    result.forward_seconds = std::min(result.forward_seconds, forward);
    result.backward_seconds = std::min(result.backward_seconds, backward);
    spent += forward + backward;
  }
  return result;
}

}  // namespace espalier::cpu
