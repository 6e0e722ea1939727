// SPDX-License-Identifier: Apache-2.0
// A file system of its own that can be full: a tmpfs, where this process may mount one.
#pragma once

#include <cstdint>
#include <filesystem>

namespace espalier::torture {

class SmallDisk {
 public:
  /// `folder` is made and becomes the disk.
  SmallDisk(std::filesystem::path folder, int64_t bytes);
  ~SmallDisk();
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;

  /// False where mounting is not allowed: then `folder` is one like others.
  bool mounted() const { return mounted_; }
  void resize(int64_t bytes);

 private:
  std::filesystem::path folder_;
  bool mounted_ = false;
};

}  // namespace espalier::torture
