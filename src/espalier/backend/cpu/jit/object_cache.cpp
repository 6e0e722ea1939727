// SPDX-License-Identifier: Apache-2.0
// File: "espalier loop 1\n", the key, the digest of the object, its bytes.
#include "espalier/backend/cpu/jit/object_cache.h"

#include <llvm/ADT/StringExtras.h>
#include <llvm/Support/SHA256.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <fmt/format.h>

namespace espalier::cpu::jit {
namespace {

constexpr std::string_view kMagic = "espalier loop 1\n";
constexpr size_t kDigest = 64;

}  // namespace

std::string digest(const std::string& text) {
  llvm::SHA256 hash;
  hash.update(llvm::StringRef(text));
  return llvm::toHex(hash.final(), /*LowerCase=*/true);
}

std::string ObjectCache::path(const std::string& key) const {
  return folder_ + "/" + key + ".loop";
}

std::optional<std::string> ObjectCache::read(const std::string& key) const {
  if (folder_.empty()) return std::nullopt;
  std::ifstream file(path(key), std::ios::binary);
  if (!file) return std::nullopt;
  std::ostringstream all;
  all << file.rdbuf();
  const std::string text = std::move(all).str();
  const size_t header = kMagic.size() + 2 * kDigest;
  if (text.size() <= header || text.compare(0, kMagic.size(), kMagic) != 0) return std::nullopt;
  if (text.compare(kMagic.size(), kDigest, key) != 0) return std::nullopt;
  std::string object = text.substr(header);
  if (text.compare(kMagic.size() + kDigest, kDigest, digest(object)) != 0) return std::nullopt;
  return object;
}

void ObjectCache::write(const std::string& key, const std::string& object) const {
  if (folder_.empty()) return;
  std::error_code error;
  std::filesystem::create_directories(folder_, error);
  static std::atomic<int> serial{0};
  const std::string temporary =
      fmt::format("{}/{}.{}.{}.tmp", folder_, key, getpid(), serial.fetch_add(1));
  {
    std::ofstream file(temporary, std::ios::binary);
    file << kMagic << key << digest(object) << object;
    file.close();
    if (!file) {
      std::filesystem::remove(temporary, error);
      return;
    }
  }
  std::filesystem::rename(temporary, path(key), error);
  if (error) std::filesystem::remove(temporary, error);
}

}  // namespace espalier::cpu::jit
