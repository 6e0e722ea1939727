// SPDX-License-Identifier: Apache-2.0
#include "espalier/backend/cpu/peak/fma_loop_impl.h"

namespace espalier::cpu {

ESPALIER_FMA_LOOP(fma_loop_avx512, "vfmadd231ps", 16, 2)

}  // namespace espalier::cpu
