// SPDX-License-Identifier: Apache-2.0
// Attention in double, with a first-order error budget for every element.
//
// u = 2^-24. Sums of n products err by at most c(n) u sum|terms|, c(n) = 4 sqrt(n) + 4: rounding
// errors of random sign, four standard deviations, and a constant for the operands' own roundings
// (q is scaled before the product, P and dS are rounded after theirs).
//   logit        e_ij = u (c(D) |scale| sum|q||k| + 2 |m_i| + 8), m_i = the row's largest logit:
//                products, the subtraction of m_i, 2^x
//   P, lse       relative e_ij + E_i with E_i = sum_j P_ij e_ij, from the denominator
//   out          sum_j f P |v| (e_ij + E_i + u c(S))
//   P backward   adds 4 u |lse|: lse is stored in f32 and taken to base 2
//   delta        sum_d |dout| (budget of out + u c(D) |out|)
//   dS           scale P (r_ij |f dP - delta| + f u c(D) sum|dout||v| + budget of delta + ...)
//   kFlush       probabilities below 2^-126 are zero
// and so on, linearly; every output adds unit_roundoff(dtype) |want| and the subnormal step.
#include <cmath>
#include <vector>

#include "espalier/base/rng.h"
#include "tests/backend_attention/case.h"

namespace espalier::cpu {
namespace {

constexpr double kU = 0x1p-24;
constexpr double kFlush = 0x1p-125;
double c(int64_t n) { return 4.0 * std::sqrt(static_cast<double>(n)) + 4.0; }

double rounded_budget(DType dtype, double want, double budget) {
  const double subnormal = dtype == DType::f16 ? 0x1p-25 : 0x1p-126;
  const double u = unit_roundoff(dtype);
  return budget + u * (std::abs(want) + budget) + subnormal;
}

struct Matrix {
  Matrix(int64_t rows, int64_t columns)
      : columns(columns), values(static_cast<size_t>(rows * columns), 0.0) {}
  double& operator()(int64_t i, int64_t j) { return values[static_cast<size_t>(i * columns + j)]; }
  int64_t columns;
  std::vector<double> values;
};

struct Head {
  Head(const Case& test, double scale_error, int64_t b, int64_t h, Deviation& worst)
      : t(test),
        p(test.params),
        b(b),
        h(h),
        worst(worst),
        scale(static_cast<double>(p.scale) * (1.0 + scale_error)),
        q(p.seq_q, p.head_dim),
        k(p.seq_k, p.head_dim),
        v(p.seq_k, p.head_dim),
        dout(p.seq_q, p.head_dim) {
    const int64_t kv = h / (p.heads / p.kv_heads);
    for (int64_t d = 0; d < p.head_dim; ++d) {
      for (int64_t i = 0; i < p.seq_q; ++i) {
        q(i, d) = t.qkv.get(at(p.q, h, i, d));
        dout(i, d) = t.dout.get(at(p.dout, h, i, d));
      }
      for (int64_t j = 0; j < p.seq_k; ++j) {
        k(j, d) = t.qkv.get(t.k_offset + at(p.k, kv, j, d));
        v(j, d) = t.qkv.get(t.v_offset + at(p.v, kv, j, d));
      }
    }
  }

  int64_t at(const AttentionStrides& s, int64_t head, int64_t i, int64_t d) const {
    return b * s.batch + head * s.head + i * s.seq + d;
  }
  bool visible(int64_t i, int64_t j) const {
    if (p.causal && j > i + p.seq_k - p.seq_q) return false;
    if (p.key_mask && p.key_mask[b * p.seq_k + j] == 0) return false;
    return !p.segments_q || p.segments_q[b * p.seq_q + i] == p.segments_k[b * p.seq_k + j];
  }
  double factor(int64_t i, int64_t j) const {
    if (p.dropout == 0.0f) return 1.0;
    const uint64_t index = static_cast<uint64_t>(((b * p.heads + h) * p.seq_q + i) * p.seq_k + j);
    const bool drop = rng_uniform(rng_key(p.seed, p.step, p.op_id), index) < p.dropout;
    return drop ? 0.0 : 1.0 / (1.0 - static_cast<double>(p.dropout));
  }

  /// Adds this head to dk, dv and their budgets; compares out, lse, dq.
  void run(Matrix& dk, Matrix& dk_budget, Matrix& dv, Matrix& dv_budget);

  const Case& t;
  const AttentionParams& p;
  int64_t b, h;
  Deviation& worst;
  double scale;
  Matrix q, k, v, dout;
};

void Head::run(Matrix& dk, Matrix& dk_budget, Matrix& dv, Matrix& dv_budget) {
  const int64_t size = p.head_dim, seq_k = p.seq_k;
  const double inf = std::numeric_limits<double>::infinity();
  std::vector<double> logit(seq_k), e(seq_k), prob(seq_k), f(seq_k);
  std::vector<double> want_out(size), out_budget(size), dq(size), dq_budget(size);
  for (int64_t i = 0; i < p.seq_q; ++i) {
    double top = -inf;
    for (int64_t j = 0; j < seq_k; ++j) {
      logit[j] = -inf;
      if (!visible(i, j)) continue;
      double sum = 0.0, bulk = 0.0;
      for (int64_t d = 0; d < size; ++d) {
        sum += q(i, d) * k(j, d);
        bulk += std::abs(q(i, d) * k(j, d));
      }
      logit[j] = scale * sum;
      e[j] = kU * (c(size) * std::abs(scale) * bulk + 8.0);
      top = std::max(top, logit[j]);
    }
    double total = 0.0, row_error = 0.0;
    for (int64_t j = 0; j < seq_k; ++j) {
      prob[j] = logit[j] == -inf ? 0.0 : std::exp(logit[j] - top);
      f[j] = factor(i, j);
      e[j] += 2.0 * kU * std::abs(top);
      total += prob[j];
    }
    for (int64_t j = 0; j < seq_k; ++j) {
      if (total > 0.0) prob[j] /= total;
      if (prob[j] > 0.0) row_error += prob[j] * e[j];
    }
    const double lse = total > 0.0 ? top + std::log(total) : -inf;
    const double lse_error = row_error + kU * (c(seq_k) + 4.0 * std::abs(lse));
    worst.add(t.lse.get((b * p.heads + h) * p.seq_q + i), lse, lse_error, "lse", b, h, i, 0);

    double delta = 0.0, delta_budget = 0.0;
    for (int64_t d = 0; d < size; ++d) {
      want_out[d] = 0.0;
      double budget = 0.0;
      for (int64_t j = 0; j < seq_k; ++j) {
        if (prob[j] == 0.0) continue;
        want_out[d] += prob[j] * f[j] * v(j, d);
        budget += prob[j] * f[j] * std::abs(v(j, d)) * (e[j] + row_error + kU * c(seq_k)) +
                  kFlush * f[j] * std::abs(v(j, d));
      }
      out_budget[d] = rounded_budget(p.out_dtype, want_out[d], budget);
      worst.add(t.out.get(at(p.out, h, i, d)), want_out[d], out_budget[d], "out", b, h, i, d);
      delta += dout(i, d) * want_out[d];
      delta_budget += std::abs(dout(i, d)) * (out_budget[d] + kU * c(size) * std::abs(want_out[d]));
      dq[d] = dq_budget[d] = 0.0;
    }
    for (int64_t j = 0; j < seq_k; ++j) {
      if (prob[j] == 0.0) continue;
      double dprob = 0.0, bulk = 0.0;
      for (int64_t d = 0; d < size; ++d) {
        dprob += dout(i, d) * v(j, d);
        bulk += std::abs(dout(i, d) * v(j, d));
      }
      const double r = e[j] + row_error + 4.0 * kU * std::abs(lse) + kU * c(seq_k);
      const double dlogit = scale * prob[j] * (f[j] * dprob - delta);
      const double dlogit_budget =
          std::abs(scale) * prob[j] *
              (r * std::abs(f[j] * dprob - delta) + f[j] * kU * c(size) * bulk + delta_budget +
               4.0 * kU * (f[j] * std::abs(dprob) + std::abs(delta))) +
          std::abs(scale) * kFlush * std::abs(f[j] * dprob - delta);
      for (int64_t d = 0; d < size; ++d) {
        const auto product = [&](double x, double y, double error, int64_t n, double& sum,
                                 double& budget) {
          sum += x * y;
          budget += std::abs(y) * (error + kU * c(n) * std::abs(x));
        };
        product(dlogit, k(j, d), dlogit_budget, seq_k, dq[d], dq_budget[d]);
        const int64_t terms = p.seq_q * (p.heads / p.kv_heads);
        product(dlogit, q(i, d), dlogit_budget, terms, dk(j, d), dk_budget(j, d));
        product(prob[j] * f[j], dout(i, d), f[j] * (prob[j] * r + kFlush), terms, dv(j, d),
                dv_budget(j, d));
      }
    }
    for (int64_t d = 0; d < size; ++d) {
      worst.add(t.dqkv.get(at(p.dq, h, i, d)), dq[d],
                rounded_budget(p.grad_dtype, dq[d], dq_budget[d]), "dq", b, h, i, d);
    }
  }
}

}  // namespace

Deviation compare(const Case& t, double scale_error) {
  const AttentionParams& p = t.params;
  Deviation worst;
  const int64_t group = p.heads / p.kv_heads;
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t kv = 0; kv < p.kv_heads; ++kv) {
      Matrix dk(p.seq_k, p.head_dim), dv(p.seq_k, p.head_dim);
      Matrix dk_budget(p.seq_k, p.head_dim), dv_budget(p.seq_k, p.head_dim);
      for (int64_t g = 0; g < group; ++g) {
        Head(t, scale_error, b, kv * group + g, worst).run(dk, dk_budget, dv, dv_budget);
      }
      for (int64_t j = 0; j < p.seq_k; ++j) {
        for (int64_t d = 0; d < p.head_dim; ++d) {
          const int64_t row = b * p.dk.batch + kv * p.dk.head + j * p.dk.seq + d;
          worst.add(t.dqkv.get(t.k_offset + row), dk(j, d),
                    rounded_budget(p.grad_dtype, dk(j, d), dk_budget(j, d)), "dk", b, kv, j, d);
          worst.add(t.dqkv.get(t.v_offset + row), dv(j, d),
                    rounded_budget(p.grad_dtype, dv(j, d), dv_budget(j, d)), "dv", b, kv, j, d);
        }
      }
    }
  }
  const auto check_guards = [&](const char* what, const Buffer& buffer, int64_t written) {
    const int64_t outside = buffer.count() + 2 * Buffer::kGuard - written;
    worst.add(static_cast<double>(buffer.untouched()), static_cast<double>(outside), 0.5, what, 0,
              0, 0, 0);
  };
  const int64_t per_query = p.batch * p.seq_q * p.heads;
  check_guards("untouched elements of out", t.out, per_query * p.head_dim);
  check_guards("untouched elements of lse", t.lse, per_query);
  check_guards("untouched elements of dqkv", t.dqkv,
               (per_query + 2 * p.batch * p.seq_k * p.kv_heads) * p.head_dim);
  return worst;
}

}  // namespace espalier::cpu
