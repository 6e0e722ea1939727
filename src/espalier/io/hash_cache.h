// SPDX-License-Identifier: Apache-2.0
// SHA-256 of large files, remembered: weights of a gigabyte are not read again at every start.
#pragma once

#include <filesystem>
#include <string>

namespace espalier::io {

class HashCache {
 public:
  /// `folder` is made when something is remembered; empty: nothing is.
  explicit HashCache(std::filesystem::path folder) : folder_(std::move(folder)) {}

  /// SHA-256 of a file. A remembered one counts as long as the file is the same one by device,
  /// number, size, and times of change of contents and of attributes; it is not trusted for a file
  /// that was changed when it was read, or a moment before. Safe from several threads and
  /// processes. A cache that cannot be read or written is no error.
  std::string sha256(const std::filesystem::path& file) const;

 private:
  std::filesystem::path folder_;
};

}  // namespace espalier::io
