// SPDX-License-Identifier: Apache-2.0
// What a matmul computes, apart from how.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "espalier/tensor/dtype.h"

namespace espalier::cpu {

/// swiglu: of two products with one A, silu(A B) * (A B2) (Shazeer, arXiv 2002.05202).
enum class Activation : uint8_t { none, relu, gelu_erf, gelu_tanh, swiglu };
std::string_view name(Activation activation);

/// Where the elements of a batch of matrices lie, in elements. Strides of size-1 dimensions are
/// never used; a batch stride of 0 repeats the matrix.
struct MatrixLayout {
  int64_t row = 0;
  int64_t col = 1;
  int64_t outer = 0;  // from one outer batch entry to the next
  int64_t inner = 0;  // from one inner batch entry to the next
};

/// Dense row-major [rows, cols], or its transpose: the same memory read as [cols, rows].
inline MatrixLayout row_major(int64_t cols) { return {.row = cols, .col = 1}; }
inline MatrixLayout transposed(int64_t cols) { return {.row = 1, .col = cols}; }

/// C[o, i, m, n] = act(sum_k A[o, i, m, k] * B[o, i, k, n] + bias[n] (+ C)), o < batch_outer,
/// i < batch_inner. Inputs are f32, bf16 or f16, sums are f32.
struct MatmulDesc {
  int64_t batch_outer = 1;
  int64_t batch_inner = 1;
  int64_t m = 1;
  int64_t n = 1;
  int64_t k = 1;
  DType a_dtype = DType::f32;
  DType b_dtype = DType::f32;
  DType c_dtype = DType::f32;
  DType bias_dtype = DType::f32;
  MatrixLayout a;  // rows m, columns k
  MatrixLayout b;  // rows k, columns n
  MatrixLayout c;  // rows m, columns n
  bool accumulate = false;
  bool bias = false;
  Activation activation = Activation::none;
  bool b_constant = false;  // B never changes: where packed_b_bytes() > 0, it comes packed

  int64_t batch() const { return batch_outer * batch_inner; }
  double flops() const {
    const double products = activation == Activation::swiglu ? 2.0 : 1.0;
    return 2.0 * products * static_cast<double>(batch()) * static_cast<double>(m) *
           static_cast<double>(n) * static_cast<double>(k);
  }
  /// "[4096,512]x[512,1536] f32,f32->f32 +bias relu"
  std::string str() const;
};

}  // namespace espalier::cpu
