// SPDX-License-Identifier: Apache-2.0
// The digests, signatures and encodings of object stores' protocols, by OpenSSL.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace espalier::io {

/// Digests as raw bytes: 16, 32 and 32.
std::string md5(std::span<const std::byte> bytes);
std::string sha256(std::span<const std::byte> bytes);
std::string hmac_sha256(std::string_view key, std::string_view text);

/// Small letters, two digits a byte.
std::string hex(std::string_view raw);
/// RFC 4648, section 4: with padding.
std::string base64(std::string_view raw);
/// RFC 4648, section 5: for URLs, without padding.
std::string base64_url(std::string_view raw);
/// CRC-32C as Google's stores write it: base64 of four bytes, the highest first.
std::string base64_crc32c(std::span<const std::byte> bytes);
std::string base64_crc32c(uint32_t crc);

/// RSA with PKCS #1 v1.5 and SHA-256 (RS256 of RFC 7518). Throws `user` for a key in another form
/// than PEM.
std::string sign_rs256(const std::string& pem_key, std::string_view text);

/// 32 digits that no other call anywhere makes.
std::string random_hex();

inline std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

}  // namespace espalier::io
