// SPDX-License-Identifier: Apache-2.0
// Compiled objects on disk, one file per loop, named by the digest of its key.
#pragma once

#include <optional>
#include <string>

namespace espalier::cpu::jit {

/// SHA-256 of the text, as 64 hexadecimal digits.
std::string digest(const std::string& text);

class ObjectCache {
 public:
  /// `folder` is made at the first write. Empty: every read misses and nothing is written.
  explicit ObjectCache(std::string folder) : folder_(std::move(folder)) {}

  /// The object stored under `key` (a digest). A file that is missing, damaged or of another key or
  /// format counts as a miss.
  std::optional<std::string> read(const std::string& key) const;
  /// Writes a temporary file and renames it, so that readers see all of it or nothing. A folder
  /// that cannot be written leaves no cache and no error.
  void write(const std::string& key, const std::string& object) const;

 private:
  std::string path(const std::string& key) const;
  std::string folder_;
};

}  // namespace espalier::cpu::jit
