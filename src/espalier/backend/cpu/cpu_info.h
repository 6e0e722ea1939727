// SPDX-License-Identifier: Apache-2.0
// What the processor offers, found once per process. The variable ESPALIER_ISA (avx2, avx512,
// avx512_bf16) lowers the instruction set, for oneDNN too.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace espalier::cpu {

/// Ordered: each contains the ones before it. avx2 means AVX2 + FMA + F16C; avx512 means the
/// F, BW, DQ and VL subsets; avx512_bf16 adds the bf16 dot product.
enum class Isa : uint8_t { avx2, avx512, avx512_bf16 };

std::string_view name(Isa isa);
std::optional<Isa> parse_isa(std::string_view text);
/// Bytes of one vector register: 32 or 64.
constexpr int64_t vector_bytes(Isa isa) { return isa == Isa::avx2 ? 32 : 64; }

struct CpuInfo {
  Isa isa = Isa::avx2;       // in use: the hardware's, or less where ESPALIER_ISA says so
  Isa hardware = Isa::avx2;  // the best this processor has
  int64_t l1_bytes = 0;      // data cache of one core
  int64_t l2_bytes = 0;      // of one core
  int64_t l3_bytes = 0;      // of the group of cores that shares it
  int cores = 1;             // processors this process may run on
  std::string model;         // "AMD EPYC 9654", from the processor itself
};

/// The processor as detected at the first call. Throws `unsupported` without AVX2, FMA and F16C,
/// and `user` when ESPALIER_ISA names an unknown set or one the processor lacks.
const CpuInfo& cpu_info();

/// Threads for what a user asks for: 0 is as many as there are cores. Throws `user` for a number
/// outside 0 to 4,096.
int thread_count(int asked);

/// The rule behind ESPALIER_ISA: `requested` empty means the hardware's best. Throws as above.
Isa choose_isa(Isa hardware, std::string_view requested);

}  // namespace espalier::cpu
