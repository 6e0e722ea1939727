// SPDX-License-Identifier: Apache-2.0
// SHA-256 (FIPS 180-4), by OpenSSL.
#pragma once

#include <filesystem>
#include <memory>

#include "espalier/io/byte_sink.h"

namespace espalier::io {

class Sha256 final : public ByteSink {
 public:
  Sha256();
  ~Sha256() override;
  using ByteSink::write;
  void write(std::span<const std::byte> bytes) override;
  std::string label() const override { return "a checksum"; }
  /// 64 digits of what was written. Nothing can be written after it.
  std::string hex();

 private:
  struct Free {
    void operator()(void* context) const;
  };
  std::unique_ptr<void, Free> context_;
};

std::string sha256_hex(std::string_view text);
/// Of a whole file.
std::string sha256_file(const std::filesystem::path& path);

}  // namespace espalier::io
