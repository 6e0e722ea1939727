// SPDX-License-Identifier: Apache-2.0
#include "espalier/backend/cpu/matmul/gemm_kernels_impl.h"

namespace espalier::cpu {

const GemmKernels& gemm_kernels_avx512() {
  static constexpr GemmKernels kernels{
      "14x32 avx512", 14, 32, tile<14, 2, 16>, pack<14>, pack<32>, finish, narrow, widen};
  return kernels;
}

}  // namespace espalier::cpu
