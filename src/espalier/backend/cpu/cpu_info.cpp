// SPDX-License-Identifier: Apache-2.0
#include "espalier/backend/cpu/cpu_info.h"

#include <cpuid.h>
#include <sched.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <oneapi/dnnl/dnnl.hpp>

#include "espalier/base/error.h"
#include "espalier/base/processor.h"

namespace espalier::cpu {
namespace {

Isa detect_isa() {
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
  ESPALIER_CHECK(avx2, ErrorKind::unsupported, "cpu",
                 "this processor lacks AVX2, FMA or F16C; Espalier needs all three");
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (!avx512) return Isa::avx2;
  return __builtin_cpu_supports("avx512bf16") ? Isa::avx512_bf16 : Isa::avx512;
}

std::string read_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

/// Size of the data (or unified) cache of `level` seen by processor 0. The kernel's tables come
/// first: the C library's L3 figure is wrong on virtual machines.
int64_t cache_bytes(int level, int sysconf_key, int64_t otherwise) {
  for (int index = 0; index < 8; ++index) {
    const std::string folder = fmt::format("/sys/devices/system/cpu/cpu0/cache/index{}/", index);
    if (read_line(folder + "level") != std::to_string(level)) continue;
    if (read_line(folder + "type") == "Instruction") continue;
    const std::string size = read_line(folder + "size");
    char* unit = nullptr;
    const int64_t number = std::strtoll(size.c_str(), &unit, 10);
    if (number <= 0) continue;
    return number * (*unit == 'K' ? 1024 : *unit == 'M' ? 1024 * 1024 : 1);
  }
  const long size = sysconf(sysconf_key);
  return size > 0 ? size : otherwise;
}

std::string brand() {
  char text[49] = {};
  for (unsigned leaf = 0; leaf < 3; ++leaf) {
    unsigned registers[4] = {};
    if (!__get_cpuid(0x80000002u + leaf, &registers[0], &registers[1], &registers[2],
                     &registers[3])) {
      return "unknown";
    }
    std::memcpy(text + 16 * leaf, registers, 16);
  }
  std::string result(text);
  while (!result.empty() && result.back() == ' ') result.pop_back();
  return result.substr(std::min(result.find_first_not_of(' '), result.size()));
}

int usable_cores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
  return static_cast<int>(std::max(1L, sysconf(_SC_NPROCESSORS_ONLN)));
}

CpuInfo detect() {
  CpuInfo info;
  info.hardware = detect_isa();
  const char* requested = std::getenv("ESPALIER_ISA");
  info.isa = choose_isa(info.hardware, requested ? requested : "");
  if (info.isa != info.hardware) {
    // Best effort: oneDNN refuses once it has created its first kernel.
    dnnl::set_max_cpu_isa(info.isa == Isa::avx2 ? dnnl::cpu_isa::avx2 : dnnl::cpu_isa::avx512_core);
  }
  info.l1_bytes = cache_bytes(1, _SC_LEVEL1_DCACHE_SIZE, 32 << 10);
  info.l2_bytes = cache_bytes(2, _SC_LEVEL2_CACHE_SIZE, 256 << 10);
  info.l3_bytes = cache_bytes(3, _SC_LEVEL3_CACHE_SIZE, 8 << 20);
  info.cores = usable_cores();
  info.model = brand();
  return info;
}

}  // namespace

std::string_view name(Isa isa) {
  switch (isa) {
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
    case Isa::avx512_bf16:
      break;
  }
  return "avx512_bf16";
}

std::optional<Isa> parse_isa(std::string_view text) {
  for (const Isa isa : {Isa::avx2, Isa::avx512, Isa::avx512_bf16}) {
    if (text == name(isa)) return isa;
  }
  return std::nullopt;
}

Isa choose_isa(Isa hardware, std::string_view requested) {
  if (requested.empty()) return hardware;
  const std::optional<Isa> isa = parse_isa(requested);
  ESPALIER_CHECK(isa.has_value(), ErrorKind::user, "cpu",
                 "ESPALIER_ISA is \"{}\"; known are avx2, avx512, avx512_bf16", requested);
  ESPALIER_CHECK(*isa <= hardware, ErrorKind::user, "cpu",
                 "ESPALIER_ISA is {}, but this processor has no more than {}", requested,
                 name(hardware));
  return *isa;
}

int thread_count(int asked) {
  constexpr int kMost = 4096;
  ESPALIER_CHECK(asked >= 0 && asked <= kMost, ErrorKind::user, "cpu",
                 "--threads {} is outside 0 to {}; 0 takes all {} processors", asked, kMost,
                 cpu_info().cores);
  return asked > 0 ? asked : cpu_info().cores;
}

const CpuInfo& cpu_info() {
  static const CpuInfo info = detect();
  return info;
}

}  // namespace espalier::cpu
