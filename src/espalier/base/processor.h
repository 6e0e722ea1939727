// SPDX-License-Identifier: Apache-2.0
// What the compilers' `__builtin_cpu_supports` cannot be asked alike.
#pragma once

namespace espalier {

/// Whether the processor has F16C, which converts between float16 and float32; false where it is
/// no x86. Use it with AVX2, whose builtin also asks whether the system keeps its registers.
bool has_f16c();

}  // namespace espalier
