// SPDX-License-Identifier: Apache-2.0
// What a process is doing right now, from /proc.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

namespace espalier::torture {

/// Files below `folder` that the process has open for writing.
std::vector<std::string> files_being_written(pid_t process, const std::filesystem::path& folder);

/// SIGSTOP, and returns when every thread stands still; false when the process is gone.
bool freeze(pid_t process);

}  // namespace espalier::torture
