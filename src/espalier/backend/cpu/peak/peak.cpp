// SPDX-License-Identifier: Apache-2.0
#include "espalier/backend/cpu/peak/peak.h"

#include <omp.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "espalier/backend/cpu/matmul/matmul.h"
#include "espalier/backend/cpu/peak/fma_loop.h"
#include "espalier/backend/cpu/peak/stopwatch.h"
#include "espalier/base/error.h"
#include "espalier/tensor/host_tensor.h"

namespace espalier::cpu {
namespace {

bool native_bf16(DType dtype, Isa isa) { return dtype == DType::bf16 && isa == Isa::avx512_bf16; }

FmaLoop loop_for(DType dtype, Isa isa) {
  if (native_bf16(dtype, isa)) return fma_loop_avx512_bf16;
  return isa == Isa::avx2 ? fma_loop_avx2 : fma_loop_avx512;
}

ArithmeticPeak arithmetic(DType dtype, const PeakOptions& options, Isa isa, int threads,
                          const ArithmeticPeak* f32) {
  ArithmeticPeak peak;
  const int64_t lanes = vector_bytes(isa) / 4;
  if (dtype == DType::f32 || native_bf16(dtype, isa)) {
    peak.fma_one = measure_fma(dtype, isa, 1, options.seconds);
    peak.fma_all = threads == 1 ? peak.fma_one : measure_fma(dtype, isa, threads, options.seconds);
    peak.how =
        fmt::format("{}, {} lanes", dtype == DType::f32 ? "vfmadd231ps" : "vdpbf16ps", lanes);
  } else {
    peak.fma_one = f32->fma_one;
    peak.fma_all = f32->fma_all;
    peak.native = false;
    peak.how = fmt::format("no {} arithmetic: the f32 rate", name(dtype));
  }
  if (options.matmul) peak.matmul_all = measure_matmul(dtype, isa, threads, options.seconds);
  return peak;
}

}  // namespace

double measure_fma(DType dtype, Isa isa, int threads, double seconds) {
  const FmaLoop loop = loop_for(dtype, isa);
  loop(10000);
  int64_t rounds = 10000;  // doubled until a repeat takes a tenth of the time
  double best = 0;
  for (Stopwatch total; total.seconds() < seconds;) {
    double flops = 0;
    Stopwatch watch;
#pragma omp parallel num_threads(threads) reduction(+ : flops)
    flops += loop(rounds);
    const double took = watch.seconds();
    best = std::max(best, flops / took);
    if (took < seconds / 20) rounds *= 2;
  }
  return best;
}

double measure_matmul(DType dtype, Isa isa, int threads, double seconds) {
  // The feed-forward product of the byte LM: large enough for a good rate, small enough to repeat.
  MatmulDesc desc;
  desc.m = 2048;
  desc.k = 512;
  desc.n = 2048;
  desc.a = row_major(desc.k);
  desc.b = transposed(desc.k);
  desc.c = row_major(desc.n);
  desc.a_dtype = desc.b_dtype = dtype;
  const auto plan = Matmul::create(desc, {.threads = threads, .isa = isa});
  HostTensor a(dtype, {desc.m, desc.k}), b(dtype, {desc.n, desc.k}),
      c(DType::f32, {desc.m, desc.n});
  HostTensor scratch(DType::u8, {std::max<int64_t>(1, plan->scratch_bytes())});
  double best = 0;
  int repeats = 0;
  for (Stopwatch total; repeats < 3 || total.seconds() < seconds; ++repeats) {
    Stopwatch watch;
    plan->run(a.data(), b.data(), nullptr, c.data(), scratch.data());
    best = std::max(best, desc.flops() / watch.seconds());
  }
  return best;
}

PeakReport measure_peak(const PeakOptions& options) {
  ESPALIER_CHECK(options.seconds > 0.0, ErrorKind::user, "peak", "--seconds {} must be positive",
                 options.seconds);
  const CpuInfo& cpu = cpu_info();
  Stopwatch watch;
  PeakReport report;
  report.model = cpu.model;
  report.isa = cpu.isa;
  report.threads = thread_count(options.threads);
  report.f32 = arithmetic(DType::f32, options, cpu.isa, report.threads, nullptr);
  report.bf16 = arithmetic(DType::bf16, options, cpu.isa, report.threads, &report.f32);
  report.f16 = arithmetic(DType::f16, options, cpu.isa, report.threads, &report.f32);
  if (options.memory) report.memory = measure_memory(report.threads, options.seconds);
  if (!options.disk_folder.empty()) {
    report.disk = measure_disk(options.disk_folder, options.disk_bytes);
  }
  report.seconds = watch.seconds();
  return report;
}

void PeakBeside::measure() { before_ = std::exchange(now_, measure_peak(options_)); }

}  // namespace espalier::cpu
