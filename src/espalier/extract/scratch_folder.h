// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <string_view>
#include <system_error>

namespace espalier::extract {

/// The name of a folder of this process, made by whoever writes into it; gone in the end.
class ScratchFolder {
 public:
  ScratchFolder(const std::filesystem::path& near, std::string_view purpose)
      : path_(near / fmt::format(".espalier-{}-{}", purpose, ::getpid())) {}
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace espalier::extract
