// SPDX-License-Identifier: Apache-2.0
#include "tests/backend_matmul/matmul_case.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>

namespace espalier::cpu {
namespace {

double read(const unsigned char* p, DType dtype) {
  if (dtype == DType::f32) {
    float value;
    std::memcpy(&value, p, 4);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, p, 2);
  return dtype == DType::bf16 ? from_bf16(bits) : from_f16(bits);
}

void write(unsigned char* p, DType dtype, double value) {
  if (dtype == DType::f32) {
    const float narrow = static_cast<float>(value);
    std::memcpy(p, &narrow, 4);
    return;
  }
  const float single = static_cast<float>(value);
  const uint16_t bits = dtype == DType::bf16 ? to_bf16(single) : to_f16(single);
  std::memcpy(p, &bits, 2);
}

double activate(Activation activation, double x) {
  switch (activation) {
    case Activation::relu:
      return std::max(x, 0.0);
    case Activation::gelu_erf:
      return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
    case Activation::gelu_tanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::none:
      break;
  }
  return x;
}

struct Free {
  void operator()(void* p) const { std::free(p); }
};
using Scratch = std::unique_ptr<unsigned char, Free>;
constexpr int64_t kScratchGuard = 256;

Scratch make_scratch(int64_t bytes) {
  const int64_t size = (bytes + kScratchGuard + 63) / 64 * 64;
  Scratch scratch(static_cast<unsigned char*>(std::aligned_alloc(64, size)));
  std::memset(scratch.get(), 0xFF, size);
  return scratch;
}

bool guard_intact(const Scratch& scratch, int64_t bytes) {
  return std::all_of(scratch.get() + bytes, scratch.get() + bytes + kScratchGuard,
                     [](unsigned char byte) { return byte == 0xFF; });
}

}  // namespace

Operand::Operand(const MatmulDesc& desc, const MatrixLayout& layout, DType dtype, int64_t rows,
                 int64_t cols)
    : layout_(layout),
      dtype_(dtype),
      outer_(desc.batch_outer),
      inner_(desc.batch_inner),
      rows_(rows),
      cols_(cols) {
  const int64_t last = offset(outer_ - 1, inner_ - 1, rows - 1, cols - 1);
  bytes_.assign(static_cast<size_t>((last + 1) * size_of(dtype) + 2 * kGuard), 0xFF);
}

int64_t Operand::offset(int64_t outer, int64_t inner, int64_t row, int64_t col) const {
  return outer * layout_.outer + inner * layout_.inner + row * layout_.row + col * layout_.col;
}

double Operand::get(int64_t outer, int64_t inner, int64_t row, int64_t col) const {
  return read(bytes_.data() + kGuard + offset(outer, inner, row, col) * size_of(dtype_), dtype_);
}

void Operand::set(int64_t outer, int64_t inner, int64_t row, int64_t col, double value) {
  write(bytes_.data() + kGuard + offset(outer, inner, row, col) * size_of(dtype_), dtype_, value);
}

void Operand::fill(uint64_t seed, bool exact) {
  std::mt19937_64 engine(seed);
  std::uniform_real_distribution<double> uniform(-1.0, 1.0);
  std::uniform_int_distribution<int> integer(-4, 4);
  for (int64_t o = 0; o < outer_; ++o) {
    for (int64_t i = 0; i < inner_; ++i) {
      for (int64_t r = 0; r < rows_; ++r) {
        for (int64_t c = 0; c < cols_; ++c) {
          set(o, i, r, c, exact ? integer(engine) : uniform(engine));
        }
      }
    }
  }
}

bool Operand::only_matrices_changed(const Operand& before) const {
  std::vector<unsigned char> mine = bytes_, old = before.bytes_;
  const int64_t size = size_of(dtype_);
  for (int64_t o = 0; o < outer_; ++o) {
    for (int64_t i = 0; i < inner_; ++i) {
      for (int64_t r = 0; r < rows_; ++r) {
        for (int64_t c = 0; c < cols_; ++c) {
          const int64_t at = kGuard + offset(o, i, r, c) * size;
          std::memset(mine.data() + at, 0, size);
          std::memset(old.data() + at, 0, size);
        }
      }
    }
  }
  return mine == old;
}

std::string run_case(const MatmulDesc& desc, const CaseOptions& options,
                     std::vector<unsigned char>* result) {
  Operand a(desc, desc.a, desc.a_dtype, desc.m, desc.k);
  Operand b(desc, desc.b, desc.b_dtype, desc.k, desc.n);
  Operand c(desc, desc.c, desc.c_dtype, desc.m, desc.n);
  MatmulDesc row;
  Operand bias(row, row_major(desc.n), desc.bias_dtype, 1, desc.n);
  a.fill(1, options.exact);
  b.fill(2, options.exact);
  bias.fill(3, options.exact);
  if (desc.accumulate) c.fill(4, options.exact);
  const Operand before = c;
  const Operand a_before = a, b_before = b;

  const auto plan = Matmul::create(desc, options.matmul);
  const int64_t bytes = plan->scratch_bytes();
  Scratch scratch = make_scratch(bytes);
  if (options.prepacked) {
    const int64_t packed_bytes = plan->packed_b_bytes();
    if (packed_bytes == 0) return "no packed B";
    Scratch packed = make_scratch(packed_bytes);
    const int64_t pack_bytes = plan->pack_scratch_bytes();
    Scratch room = make_scratch(pack_bytes);
    plan->pack_b(b.data(), nullptr, desc.b_dtype, packed.get(), room.get());
    if (!guard_intact(room, pack_bytes)) return "pack_b wrote past its scratch";
    if (!guard_intact(packed, packed_bytes)) return "pack_b wrote past the packed bytes";
    plan->run_packed(a.data(), packed.get(), bias.data(), c.data(), scratch.get());
  } else {
    plan->run(a.data(), b.data(), bias.data(), c.data(), scratch.get());
  }
  if (result) *result = c.bytes();
  if (!guard_intact(scratch, bytes)) return "wrote past the scratch";
  if (a.bytes() != a_before.bytes() || b.bytes() != b_before.bytes()) return "an input changed";
  if (!c.only_matrices_changed(before)) return "wrote outside C";
  if (!options.check) return "";

  const double u = unit_roundoff(DType::f32), u_out = unit_roundoff(desc.c_dtype);
  const double steps = static_cast<double>(desc.k);
  // Rounding errors of a sum behave like a random walk; the proven bound k + 4 is never exceeded.
  const double c_sum = std::min(steps + 4, 4 * std::sqrt(steps) + 4);
  for (int64_t o = 0; o < desc.batch_outer; ++o) {
    for (int64_t i = 0; i < desc.batch_inner; ++i) {
      // [m, k] and [n, k] as doubles.
      std::vector<double> rows(static_cast<size_t>(desc.m * desc.k));
      std::vector<double> cols(static_cast<size_t>(desc.n * desc.k));
      for (int64_t k = 0; k < desc.k; ++k) {
        for (int64_t m = 0; m < desc.m; ++m) rows[m * desc.k + k] = a.get(o, i, m, k);
        for (int64_t n = 0; n < desc.n; ++n) cols[n * desc.k + k] = b.get(o, i, k, n);
      }
      for (int64_t m = 0; m < desc.m; ++m) {
        for (int64_t n = 0; n < desc.n; ++n) {
          const double* row = rows.data() + m * desc.k;
          const double* col = cols.data() + n * desc.k;
          double sum = 0, size = 0;
          for (int64_t k = 0; k < desc.k; ++k) {
            sum += row[k] * col[k];
            size += std::abs(row[k] * col[k]);
          }
          if (desc.bias) sum += bias.get(0, 0, 0, n), size += std::abs(bias.get(0, 0, 0, n));
          if (desc.accumulate) {
            sum += before.get(o, i, m, n);
            size += std::abs(before.get(o, i, m, n));
          }
          const double want = activate(desc.activation, sum), got = c.get(o, i, m, n);
          // GELU's slope stays below 1.13; its own evaluation adds a few roundings of its input.
          double budget = 1.13 * c_sum * u * size + u_out * std::abs(want);
          if (desc.activation != Activation::none) budget += 8 * u * std::abs(sum);
          if (desc.c_dtype == DType::f16) budget += 0x1p-25;
          if (options.exact) budget = 0;
          if (!(std::abs(got - want) <= budget)) {
            return fmt::format("{}: C[{},{},{},{}] = {}, want {}, off by {}, budget {} ({})",
                               desc.str(), o, i, m, n, got, want, std::abs(got - want), budget,
                               plan->describe());
          }
        }
      }
    }
  }
  return "";
}

}  // namespace espalier::cpu
