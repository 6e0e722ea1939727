// SPDX-License-Identifier: Apache-2.0
// Every product of a byte LM step (16 x 256 tokens), each implementation, as a share of the FMA
// loop measured between repetitions.
//   cmake --build --preset release --target matmul_table
//   OMP_NUM_THREADS=2 build/release/bench/matmul_table
#include <fmt/core.h>
#include <omp.h>
#include <time.h>

#include <algorithm>
#include <functional>

#include "espalier/backend/cpu/matmul/matmul.h"
#include "espalier/backend/cpu/peak/fma_loop.h"
#include "espalier/base/error.h"
#include "espalier/tensor/host_tensor.h"

namespace espalier::cpu {
namespace {

struct Product {
  const char* name;
  int64_t m, n, k;
  bool a_transposed, b_transposed, bias;
  DType dtype = DType::f32;
  int64_t batch = 1;
};

constexpr int64_t kTokens = 4096;
constexpr Product kProducts[] = {
    {"qkv forward", kTokens, 1536, 512, false, true, true},
    {"projection forward", kTokens, 512, 512, false, true, true},
    {"up forward", kTokens, 2048, 512, false, true, true},
    {"down forward", kTokens, 512, 2048, false, true, true},
    {"decoder forward", kTokens, 256, 512, false, true, true},
    {"qkv dx", kTokens, 512, 1536, false, false, false},
    {"projection dx", kTokens, 512, 512, false, false, false},
    {"up dx", kTokens, 512, 2048, false, false, false},
    {"down dx", kTokens, 2048, 512, false, false, false},
    {"decoder dx", kTokens, 512, 256, false, false, false},
    {"qkv dw", 1536, 512, kTokens, true, false, false},
    {"projection dw", 512, 512, kTokens, true, false, false},
    {"up dw", 2048, 512, kTokens, true, false, false},
    {"down dw", 512, 2048, kTokens, true, false, false},
    {"decoder dw", 256, 512, kTokens, true, false, false},
    {"up forward bf16", kTokens, 2048, 512, false, true, true, DType::bf16},
    {"up dw bf16", 2048, 512, kTokens, true, false, false, DType::bf16},
    {"scores", 256, 256, 64, false, true, false, DType::f32, 128},
    {"values", 256, 64, 256, false, false, false, DType::f32, 128},
    {"decode one", 1, 2048, 512, false, true, true},
    {"decode sixteen", 16, 2048, 512, false, true, true},
};

/// One thread is timed by its own processor time, which others on the machine disturb least.
double now(int threads) {
  timespec time;
  clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

double seconds_of(int threads, const std::function<void()>& work) {
  const double start = now(threads);
  work();
  return now(threads) - start;
}

void print_table() {
  const int threads = omp_get_max_threads();
  const Isa isa = cpu_info().isa;
  const FmaLoop loop = isa == Isa::avx2 ? fma_loop_avx2 : fma_loop_avx512;
  double peak = 0;
  const auto measure_peak = [&] {
    double flops = 0;
    const double seconds = seconds_of(threads, [&] {
#pragma omp parallel num_threads(threads) reduction(+ : flops)
      flops += loop(50000);
    });
    peak = std::max(peak, flops / seconds);
  };
  for (int i = 0; i < 20; ++i) measure_peak();
  fmt::print("{} threads, {}\n", threads, cpu_info().model);
  for (const Product& product : kProducts) {
    MatmulDesc desc{.batch_inner = product.batch, .m = product.m, .n = product.n, .k = product.k};
    desc.a_dtype = desc.b_dtype = product.dtype;
    desc.a = product.a_transposed ? transposed(desc.m) : row_major(desc.k);
    desc.b = product.b_transposed ? transposed(desc.k) : row_major(desc.n);
    desc.c = row_major(desc.n);
    desc.a.inner = desc.m * desc.k;
    desc.b.inner = desc.k * desc.n;
    desc.c.inner = desc.m * desc.n;
    desc.bias = product.bias;
    const HostTensor a(product.dtype, {product.batch, desc.m, desc.k});
    const HostTensor b(product.dtype, {product.batch, desc.k, desc.n});
    const HostTensor bias(DType::f32, {desc.n});
    HostTensor c(DType::f32, {product.batch, desc.m, desc.n});
    fmt::print("{:20}", product.name);
    for (const char* implementation : {"packed", "onednn"}) {
      std::unique_ptr<Matmul> plan;
      try {
        plan = Matmul::create(desc, {.threads = threads, .implementation = implementation});
      } catch (const Error&) {
        fmt::print(" {:>6} {:>16}", implementation, "-");
        continue;
      }
      HostTensor scratch(DType::u8, {plan->scratch_bytes() + 64});
      const auto run = [&] {
        plan->run(a.data(), b.data(), bias.data(), c.data(), scratch.data());
      };
      run();
      double best = 1e9;
      for (int i = 0; i < 6; ++i) {
        measure_peak();
        best = std::min(best, seconds_of(threads, run));
      }
      const double rate = desc.flops() / best;
      fmt::print(" {:>6} {:6.1f} GF {:5.1f} %", implementation, rate * 1e-9, 100 * rate / peak);
    }
    fmt::print("\n");
  }
  fmt::print("FMA peak {:.1f} GFLOP/s\n", peak * 1e-9);
}

}  // namespace
}  // namespace espalier::cpu

int main() { espalier::cpu::print_table(); }
