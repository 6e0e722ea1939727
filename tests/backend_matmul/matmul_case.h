// SPDX-License-Identifier: Apache-2.0
// One matmul case: inputs rounded to their types, a double reference, a derived error budget per
// element, poison in everything the product has to write and guards around it.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "espalier/backend/cpu/matmul/matmul.h"

namespace espalier::cpu {

/// Memory of one operand with a guard band on both sides; bytes start out as 0xFF (NaN).
class Operand {
 public:
  Operand(const MatmulDesc& desc, const MatrixLayout& layout, DType dtype, int64_t rows,
          int64_t cols);
  void* data() { return bytes_.data() + kGuard; }
  double get(int64_t outer, int64_t inner, int64_t row, int64_t col) const;
  void set(int64_t outer, int64_t inner, int64_t row, int64_t col, double value);
  /// Small multiples of 1/64 or uniform values in [-1, 1], rounded to the type.
  void fill(uint64_t seed, bool exact);
  /// True where no byte outside the matrices differs from `before`.
  bool only_matrices_changed(const Operand& before) const;
  const std::vector<unsigned char>& bytes() const { return bytes_; }

 private:
  int64_t offset(int64_t outer, int64_t inner, int64_t row, int64_t col) const;
  static constexpr int64_t kGuard = 256;
  MatrixLayout layout_;
  DType dtype_;
  int64_t outer_, inner_, rows_, cols_;
  std::vector<unsigned char> bytes_;
};

struct CaseOptions {
  MatmulOptions matmul;
  bool exact = false;      // integer-like inputs: every sum is exact, compare with ==
  bool prepacked = false;  // through pack_b and run_packed
  bool check = true;       // compare with the reference; without it only stray writes are found
};

/// Runs the case; empty when it passes, else what is wrong and where. `result`, when given,
/// receives C's memory for bitwise comparisons.
std::string run_case(const MatmulDesc& desc, const CaseOptions& options,
                     std::vector<unsigned char>* result = nullptr);

}  // namespace espalier::cpu
