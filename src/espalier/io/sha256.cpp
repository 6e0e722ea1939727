// SPDX-License-Identifier: Apache-2.0
#include "espalier/io/sha256.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <array>

#include "espalier/base/error.h"
#include "espalier/io/file.h"

namespace espalier::io {
namespace {

EVP_MD_CTX* context_of(void* context) { return static_cast<EVP_MD_CTX*>(context); }

void check(int done) {
  ESPALIER_CHECK(done == 1, ErrorKind::internal, "sha256", "OpenSSL refused a call");
}

}  // namespace

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  check(context_ == nullptr ? 0
                            : EVP_DigestInit_ex(context_of(context_.get()), EVP_sha256(), nullptr));
}
Sha256::~Sha256() = default;

void Sha256::Free::operator()(void* context) const { EVP_MD_CTX_free(context_of(context)); }

void Sha256::write(std::span<const std::byte> bytes) {
  check(EVP_DigestUpdate(context_of(context_.get()), bytes.data(), bytes.size()));
}

std::string Sha256::hex() {
  std::array<unsigned char, 32> digest{};
  check(EVP_DigestFinal_ex(context_of(context_.get()), digest.data(), nullptr));
  return fmt::format("{:02x}", fmt::join(digest, ""));
}

std::string sha256_hex(std::string_view text) {
  Sha256 sum;
  sum.write(text);
  return sum.hex();
}

std::string sha256_file(const std::filesystem::path& path) {
  const std::shared_ptr<MappedFile> file = MappedFile::open(path, {.stage = "sha256"});
  Sha256 sum;
  sum.write(file->bytes());
  return sum.hex();
}

}  // namespace espalier::io
