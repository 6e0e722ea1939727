// SPDX-License-Identifier: Apache-2.0
#include "espalier/backend/cpu/peak/fma_loop_impl.h"

namespace espalier::cpu {

ESPALIER_FMA_LOOP(fma_loop_avx2, "vfmadd231ps", 8, 2)

}  // namespace espalier::cpu
