// SPDX-License-Identifier: Apache-2.0
#include "espalier/base/processor.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace espalier {

bool has_f16c() {
#if defined(__x86_64__)
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
#else
  return false;
#endif
}

}  // namespace espalier
