// SPDX-License-Identifier: Apache-2.0
#include "tests/torture/small_disk.h"

#include <fmt/format.h>
#include <sys/mount.h>

#include <cerrno>
#include <cstring>

#include "espalier/base/error.h"

namespace espalier::torture {

SmallDisk::SmallDisk(std::filesystem::path folder, int64_t bytes) : folder_(std::move(folder)) {
  std::filesystem::create_directories(folder_);
  const std::string size = fmt::format("size={}", bytes);
  mounted_ = ::mount("tmpfs", folder_.c_str(), "tmpfs", 0, size.c_str()) == 0;
}

SmallDisk::~SmallDisk() {
  if (mounted_) ::umount2(folder_.c_str(), MNT_DETACH);
}

void SmallDisk::resize(int64_t bytes) {
  const std::string size = fmt::format("size={}", bytes);
  const int result = ::mount("tmpfs", folder_.c_str(), "tmpfs", MS_REMOUNT, size.c_str());
  ESPALIER_CHECK(result == 0, ErrorKind::device, "torture", "cannot resize {}: {}",
                 folder_.string(), std::strerror(errno));
}

}  // namespace espalier::torture
