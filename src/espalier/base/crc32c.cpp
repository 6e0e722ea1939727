// SPDX-License-Identifier: Apache-2.0
#include "espalier/base/crc32c.h"

#include <array>
#include <bit>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace espalier {
namespace {
static_assert(std::endian::native == std::endian::little);
constexpr uint32_t kPolynomial = 0x82F63B78u;  // bit-reversed 0x1EDC6F41
using Tables = std::array<std::array<uint32_t, 256>, 8>;

constexpr Tables make_tables() {
  Tables tables{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1u) != 0 ? kPolynomial : 0u);
    tables[0][i] = crc;
  }
  for (size_t k = 1; k < 8; ++k) {
    for (size_t i = 0; i < 256; ++i) {
      const uint32_t crc = tables[k - 1][i];
      tables[k][i] = (crc >> 8) ^ tables[0][crc & 0xFFu];
    }
  }
  return tables;
}
constexpr Tables kTables = make_tables();

uint64_t load64(const std::byte* p) {
  uint64_t word;
  std::memcpy(&word, p, sizeof(word));
  return word;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) uint32_t crc32c_sse42(std::span<const std::byte> bytes,
                                                        uint32_t previous) {
  const std::byte* p = bytes.data();
  size_t left = bytes.size();
  uint64_t crc = ~previous;
  for (; left >= 8; left -= 8, p += 8) crc = _mm_crc32_u64(crc, load64(p));
  auto crc32 = static_cast<uint32_t>(crc);
  for (; left > 0; --left, ++p) crc32 = _mm_crc32_u8(crc32, static_cast<uint8_t>(*p));
  return ~crc32;
}
#endif
}  // namespace

uint32_t crc32c_portable(std::span<const std::byte> bytes, uint32_t previous) {
  const std::byte* p = bytes.data();
  size_t left = bytes.size();
  uint32_t crc = ~previous;
  for (; left >= 8; left -= 8, p += 8) {  // slicing by 8 (Kounavis, Berry 2005)
    const uint64_t word = load64(p) ^ crc;
    crc = 0;
    for (size_t k = 0; k < 8; ++k) crc ^= kTables[7 - k][(word >> (8 * k)) & 0xFFu];
  }
  for (; left > 0; --left, ++p) {
    crc = (crc >> 8) ^ kTables[0][(crc ^ static_cast<uint32_t>(*p)) & 0xFFu];
  }
  return ~crc;
}

uint32_t crc32c(std::span<const std::byte> bytes, uint32_t previous) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("sse4.2")) return crc32c_sse42(bytes, previous);
#endif
  return crc32c_portable(bytes, previous);
}

}  // namespace espalier
