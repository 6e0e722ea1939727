// SPDX-License-Identifier: Apache-2.0
#include "espalier/base/crc32c.h"

#include <gtest/gtest.h>

#include <string_view>
#include <vector>

#include "espalier/base/rng.h"

namespace espalier {
namespace {

std::span<const std::byte> as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

std::vector<std::byte> random_bytes(size_t size) {
  std::vector<std::byte> bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = std::byte(rng_bits(rng_key(3, 0, 0), i) & 0xFFu);
  return bytes;
}

TEST(Crc32c, KnownValues) {
  EXPECT_EQ(crc32c(as_bytes("")), 0u);
  EXPECT_EQ(crc32c(as_bytes("123456789")), 0xE3069283u);
  // RFC 3720, B.4
  EXPECT_EQ(crc32c(std::vector<std::byte>(32)), 0x8A9136AAu);
  EXPECT_EQ(crc32c(std::vector<std::byte>(32, std::byte{0xFF})), 0x62A8AB43u);
}

TEST(Crc32c, TableAndInstructionAgreeAtEveryLengthAndAlignment) {
  const std::vector<std::byte> bytes = random_bytes(256);
  for (size_t begin = 0; begin < 9; ++begin) {
    for (size_t length = 0; begin + length <= bytes.size(); ++length) {
      const auto part = std::span(bytes).subspan(begin, length);
      ASSERT_EQ(crc32c(part), crc32c_portable(part));
    }
  }
}

TEST(Crc32c, ContinuesFromAnEarlierPart) {
  const std::vector<std::byte> bytes = random_bytes(1000);
  const auto all = std::span<const std::byte>(bytes);
  for (size_t cut : {0u, 1u, 7u, 500u, 1000u}) {
    EXPECT_EQ(crc32c(all.subspan(cut), crc32c(all.first(cut))), crc32c(all));
  }
}

}  // namespace
}  // namespace espalier
