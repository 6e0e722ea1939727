// SPDX-License-Identifier: Apache-2.0
// CRC-32C (Castagnoli, RFC 3720): the checksum of checkpoints and of TensorBoard records.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace espalier {

/// CRC of `bytes`, continuing from the CRC of what came before. Uses the CPU's crc32 instruction
/// where there is one (several GB/s), tables elsewhere.
uint32_t crc32c(std::span<const std::byte> bytes, uint32_t previous = 0);

/// The table version, for CPUs without the instruction. The same values.
uint32_t crc32c_portable(std::span<const std::byte> bytes, uint32_t previous = 0);

}  // namespace espalier
