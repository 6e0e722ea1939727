// SPDX-License-Identifier: Apache-2.0
#include "tests/backend_attention/case.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>

#include "espalier/base/rng.h"

namespace espalier::cpu {
namespace {

constexpr int64_t kGap = 5;  // unused elements at the end of every row

struct AlignedBytes {
  explicit AlignedBytes(int64_t bytes)
      : data(static_cast<char*>(std::aligned_alloc(64, static_cast<size_t>(bytes + 64)))),
        size(bytes) {
    std::memset(data.get(), 0xFF, static_cast<size_t>(bytes + 64));  // NaN
  }
  /// The plan promised this much and no more.
  bool intact() const {
    for (int64_t i = size; i < size + 64; ++i) {
      if (static_cast<uint8_t>(data.get()[i]) != 0xFF) return false;
    }
    return true;
  }
  struct Free {
    void operator()(char* p) const { std::free(p); }
  };
  std::unique_ptr<char, Free> data;
  int64_t size;
};

}  // namespace

Buffer::Buffer(DType dtype, int64_t count) : dtype_(dtype), count_(count) {
  bytes_.assign(static_cast<size_t>((count + 2 * kGuard) * size_of(dtype)), 0xFF);  // NaN
}

double Buffer::get(int64_t i) const {
  const char* p = static_cast<const char*>(data()) + i * size_of(dtype_);
  if (dtype_ == DType::f32) {
    float value;
    std::memcpy(&value, p, sizeof value);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, p, sizeof bits);
  return dtype_ == DType::bf16 ? from_bf16(bits) : from_f16(bits);
}

void Buffer::set(int64_t i, double value) {
  const float rounded = static_cast<float>(round_to(dtype_, value));
  if (dtype_ == DType::f32) {
    std::memcpy(at(i), &rounded, sizeof rounded);
    return;
  }
  const uint16_t bits = dtype_ == DType::bf16 ? to_bf16(rounded) : to_f16(rounded);
  std::memcpy(at(i), &bits, sizeof bits);
}

int64_t Buffer::untouched() const {
  int64_t n = 0;
  const size_t size = static_cast<size_t>(size_of(dtype_));
  for (size_t i = 0; i < bytes_.size(); i += size) {
    bool same = true;
    for (size_t b = 0; b < size; ++b) same = same && bytes_[i + b] == 0xFF;
    n += same;
  }
  return n;
}

namespace {

int64_t qkv_row(const Options& o) { return (o.heads + 2 * o.kv_heads) * o.head_dim + kGap; }
int64_t out_row(const Options& o) { return o.heads * o.head_dim + kGap; }
int64_t longer(const Options& o) { return std::max(o.seq_q, o.seq_k); }

}  // namespace

Case::Case(const Options& o, uint64_t seed)
    : options(o),
      qkv(o.dtype, o.batch * longer(o) * qkv_row(o)),
      out(o.out_dtype, o.batch * o.seq_q * out_row(o)),
      lse(DType::f32, o.batch * o.heads * o.seq_q),
      dout(o.out_dtype, o.batch * o.seq_q * out_row(o)),
      dqkv(o.grad_dtype, o.batch * longer(o) * qkv_row(o)),
      k_offset(o.heads * o.head_dim),
      v_offset((o.heads + o.kv_heads) * o.head_dim) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  for (int64_t b = 0; b < o.batch; ++b) {
    for (int64_t i = 0; i < longer(o); ++i) {
      const int64_t row = (b * longer(o) + i) * qkv_row(o);
      for (int64_t d = 0; d < qkv_row(o) - kGap; ++d) {
        const bool used = d < k_offset ? i < o.seq_q : i < o.seq_k;
        if (used) qkv.set(row + d, normal(random) * (d < v_offset ? o.magnitude : 1.0));
      }
    }
    for (int64_t i = 0; i < o.seq_q; ++i) {
      for (int64_t d = 0; d < out_row(o) - kGap; ++d) {
        dout.set((b * o.seq_q + i) * out_row(o) + d, normal(random));
      }
    }
  }
  if (o.key_mask) {
    for (int64_t b = 0; b < o.batch; ++b) {
      for (int64_t j = 0; j < o.seq_k; ++j) {
        const bool stretch = j > o.seq_k / 3 && j < o.seq_k / 3 + 70;
        const bool hidden = stretch || random() % 4 == 0 || b == o.batch - 1;
        key_mask_.push_back(hidden ? 0 : static_cast<uint8_t>(1 + random() % 255));
      }
    }
    params.key_mask = key_mask_.data();
  }
  if (o.segments) {
    const auto fill = [&](int64_t seq, std::vector<int32_t>& to) {
      for (int64_t b = 0; b < o.batch; ++b) {
        for (int64_t i = 0; i < seq; ++i) to.push_back(static_cast<int32_t>((i + b) / 23 - 1));
      }
    };
    fill(o.seq_q, segments_q_);
    fill(o.seq_k, segments_k_);
    segments_q_.back() = 1000;
    params.segments_q = segments_q_.data();
    params.segments_k = segments_k_.data();
  }
  params.batch = o.batch;
  params.heads = o.heads;
  params.kv_heads = o.kv_heads;
  params.seq_q = o.seq_q;
  params.seq_k = o.seq_k;
  params.head_dim = o.head_dim;
  params.dtype = o.dtype;
  params.out_dtype = o.out_dtype;
  params.grad_dtype = o.grad_dtype;
  params.scale = 1.0f / std::sqrt(static_cast<float>(o.head_dim));
  params.causal = o.causal;
  params.dropout = o.dropout;
  params.seed = 17;
  params.step = 3;
  params.op_id = 99;
  const AttentionStrides wide{longer(o) * qkv_row(o), o.head_dim, qkv_row(o)};
  const AttentionStrides narrow{o.seq_q * out_row(o), o.head_dim, out_row(o)};
  params.q = params.k = params.v = params.dq = params.dk = params.dv = wide;
  params.out = params.dout = narrow;
}

void Case::forward(const AttentionPlan& plan) {
  AlignedBytes scratch(forward_scratch(params, plan));
  run_forward(plan, params, qkv.data(), qkv.at(k_offset), qkv.at(v_offset), out.data(),
              static_cast<float*>(lse.data()), scratch.data.get());
  if (!scratch.intact()) std::abort();
}

void Case::backward(const AttentionPlan& plan) {
  AlignedBytes scratch(backward_scratch(params, plan));
  run_backward(plan, params, qkv.data(), qkv.at(k_offset), qkv.at(v_offset), out.data(),
               static_cast<const float*>(lse.data()), dout.data(), dqkv.data(), dqkv.at(k_offset),
               dqkv.at(v_offset), scratch.data.get());
  if (!scratch.intact()) std::abort();
}

void Case::run() {
  AlignedBytes scratch(attention_forward_scratch(params, options.threads));
  attention_forward(params, qkv.data(), qkv.at(k_offset), qkv.at(v_offset), out.data(),
                    static_cast<float*>(lse.data()), scratch.data.get(), options.threads);
  AlignedBytes more(attention_backward_scratch(params, options.threads));
  attention_backward(params, qkv.data(), qkv.at(k_offset), qkv.at(v_offset), out.data(),
                     static_cast<const float*>(lse.data()), dout.data(), dqkv.data(),
                     dqkv.at(k_offset), dqkv.at(v_offset), more.data.get(), options.threads);
  if (!scratch.intact() || !more.intact()) std::abort();
}

void Deviation::add(double got, double want, double budget, const char* what, int64_t b, int64_t h,
                    int64_t i, int64_t d) {
  const double error = std::abs(got - want);
  double r = got == want ? 0.0 : error / budget;
  if (std::isnan(r)) r = std::numeric_limits<double>::infinity();
  if (r <= ratio) return;
  ratio = r;
  where = fmt::format("{}[b {}, h {}, row {}, d {}] = {}, want {}, budget {}", what, b, h, i, d,
                      got, want, budget);
}

}  // namespace espalier::cpu
