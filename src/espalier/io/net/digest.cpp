// SPDX-License-Identifier: Apache-2.0
#include "espalier/io/net/digest.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rand.h>

#include <array>
#include <memory>

#include "espalier/base/crc32c.h"
#include "espalier/base/error.h"

namespace espalier::io {
namespace {

const unsigned char* unsigned_of(const void* bytes) {
  return static_cast<const unsigned char*>(bytes);
}

void check(bool done) {
  ESPALIER_CHECK(done, ErrorKind::internal, "digest", "OpenSSL refused a call");
}

std::string digest(const EVP_MD* kind, std::span<const std::byte> bytes) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> out{};
  unsigned size = 0;
  check(EVP_Digest(bytes.data(), bytes.size(), out.data(), &size, kind, nullptr) == 1);
  return {out.begin(), out.begin() + size};
}

}  // namespace

std::string md5(std::span<const std::byte> bytes) { return digest(EVP_md5(), bytes); }
std::string sha256(std::span<const std::byte> bytes) { return digest(EVP_sha256(), bytes); }

std::string hmac_sha256(std::string_view key, std::string_view text) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> out{};
  unsigned size = 0;
  check(HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), unsigned_of(text.data()),
             text.size(), out.data(), &size) != nullptr);
  return {out.begin(), out.begin() + size};
}

std::string hex(std::string_view raw) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out;
  out.reserve(raw.size() * 2);
  for (const char c : raw) {
    const auto byte = static_cast<unsigned char>(c);
    out += kDigits[byte >> 4];
    out += kDigits[byte & 15];
  }
  return out;
}

std::string base64(std::string_view raw) {
  std::string out((raw.size() + 2) / 3 * 4 + 1, '\0');  // EVP_EncodeBlock ends with a zero byte
  const int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                   unsigned_of(raw.data()), static_cast<int>(raw.size()));
  out.resize(static_cast<size_t>(size));
  return out;
}

std::string base64_url(std::string_view raw) {
  std::string out = base64(raw);
  while (out.ends_with('=')) out.pop_back();
  for (char& c : out) {
    if (c == '+') c = '-';
    if (c == '/') c = '_';
  }
  return out;
}

std::string base64_crc32c(uint32_t crc) {
  std::string raw;
  for (int shift = 24; shift >= 0; shift -= 8) raw += static_cast<char>(crc >> shift);
  return base64(raw);
}
std::string base64_crc32c(std::span<const std::byte> bytes) { return base64_crc32c(crc32c(bytes)); }

std::string sign_rs256(const std::string& pem_key, std::string_view text) {
  const std::unique_ptr<BIO, decltype(&BIO_free)> memory(
      BIO_new_mem_buf(pem_key.data(), static_cast<int>(pem_key.size())), BIO_free);
  check(memory != nullptr);
  // A key with a password is refused here, instead of asking for the password on the terminal.
  const auto no_password = [](char*, int, int, void*) { return 0; };
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
      PEM_read_bio_PrivateKey(memory.get(), nullptr, no_password, nullptr), EVP_PKEY_free);
  ESPALIER_CHECK(key != nullptr && EVP_PKEY_is_a(key.get(), "RSA") == 1, ErrorKind::user, "digest",
                 "the private key is no RSA key in PEM form");
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                        EVP_MD_CTX_free);
  check(context != nullptr);
  check(EVP_DigestSignInit(context.get(), nullptr, EVP_sha256(), nullptr, key.get()) == 1);
  size_t size = 0;
  check(EVP_DigestSign(context.get(), nullptr, &size, unsigned_of(text.data()), text.size()) == 1);
  std::string signature(size, '\0');
  check(EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(signature.data()), &size,
                       unsigned_of(text.data()), text.size()) == 1);
  signature.resize(size);
  return signature;
}

std::string random_hex() {
  std::array<char, 16> raw{};
  check(RAND_bytes(reinterpret_cast<unsigned char*>(raw.data()), static_cast<int>(raw.size())) ==
        1);
  return hex({raw.data(), raw.size()});
}

}  // namespace espalier::io
