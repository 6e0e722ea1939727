// SPDX-License-Identifier: Apache-2.0
// What this machine can do at most: arithmetic, memory and disk, measured now. Shares of a peak
// are only meaningful against a peak of the same run.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "espalier/backend/cpu/cpu_info.h"
#include "espalier/tensor/dtype.h"

namespace espalier::cpu {

struct PeakOptions {
  int threads = 0;        // 0: every processor this process may run on
  double seconds = 0.15;  // per measurement, roughly
  bool matmul = true;     // the best matrix product of the byte LM's shapes
  bool memory = true;
  std::string disk_folder;  // empty: the disk is not measured
  int64_t disk_bytes = int64_t{64} << 20;
};

/// Rates in FLOP/s of one input type.
struct ArithmeticPeak {
  double fma_one = 0;     // loop of independent multiply-adds, one thread
  double fma_all = 0;     // the same on every thread
  double matmul_all = 0;  // best product, every thread; 0 when not measured
  bool native = true;     // false: the processor has no such arithmetic, the f32 rate stands in
  std::string how;        // "vdpbf16ps, 16 lanes" or "no bf16 arithmetic: the f32 rate"
  /// The peak that shares refer to: the larger of loop and product, every thread.
  double peak() const { return fma_all > matmul_all ? fma_all : matmul_all; }
};

/// Rates in bytes/s, every thread; counted as the program sees them (no write-allocate traffic).
struct MemoryPeak {
  double read = 0;
  double write = 0;
  double triad = 0;   // a = b + s * c, three streams, as in STREAM
  int64_t bytes = 0;  // of each of the three arrays
};

/// Rates in bytes/s of one file, written and read in order; zero where not measured.
struct DiskPeak {
  double write = 0;  // until it is on the disk (fsync)
  double read = 0;   // after the page cache was asked to forget the file
  int64_t bytes = 0;
};

struct PeakReport {
  std::string model;
  Isa isa = Isa::avx2;
  int threads = 1;
  ArithmeticPeak f32, bf16, f16;
  MemoryPeak memory;
  DiskPeak disk;
  double seconds = 0;  // the whole measurement

  const ArithmeticPeak& of(DType dtype) const {
    return dtype == DType::bf16 ? bf16 : dtype == DType::f16 ? f16 : f32;
  }
};

/// Measures everything asked for; about a second with the defaults. Throws `user` when the folder
/// cannot be written, `device` when memory cannot be had.
PeakReport measure_peak(const PeakOptions& options);

inline const ArithmeticPeak& larger(const ArithmeticPeak& a, const ArithmeticPeak& b) {
  return a.peak() > b.peak() ? a : b;
}

/// The peak beside a series of measurements. A neighbour on the same host can halve the machine
/// for a second, so it is taken between every two of them, and what was reached just before a
/// measurement or just after it is its peak.
class PeakBeside {
 public:
  explicit PeakBeside(PeakOptions options) : options_(std::move(options)) {}
  /// Measures; throws as measure_peak does.
  void measure();
  /// The larger of the last two measurements; measure() has been called.
  const ArithmeticPeak& of(DType dtype) const { return larger(before_.of(dtype), now_.of(dtype)); }

 private:
  PeakOptions options_;
  PeakReport before_, now_;
};

/// FMA rate in FLOP/s of `dtype`'s best instruction on `threads` threads, within `seconds`.
double measure_fma(DType dtype, Isa isa, int threads, double seconds);
MemoryPeak measure_memory(int threads, double seconds);
DiskPeak measure_disk(const std::string& folder, int64_t bytes);
/// Best rate in FLOP/s of products with `dtype` inputs on `threads` threads.
double measure_matmul(DType dtype, Isa isa, int threads, double seconds);

}  // namespace espalier::cpu
