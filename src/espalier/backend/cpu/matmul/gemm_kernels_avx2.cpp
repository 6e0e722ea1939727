// SPDX-License-Identifier: Apache-2.0
#include "espalier/backend/cpu/matmul/gemm_kernels_impl.h"

namespace espalier::cpu {

const GemmKernels& gemm_kernels_avx2() {
  static constexpr GemmKernels kernels{"6x16 avx2", 6,      16,     tile<6, 2, 8>, pack<6>,
                                       pack<16>,    finish, narrow, widen};
  return kernels;
}

const GemmKernels& gemm_kernels_wide_avx2() {
  static constexpr GemmKernels kernels{"14x32 on avx2", 14,     32,     tile<14, 4, 8>, pack<14>,
                                       pack<32>,        finish, narrow, widen};
  return kernels;
}

}  // namespace espalier::cpu
