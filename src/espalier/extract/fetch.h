// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "espalier/extract/scratch_folder.h"

namespace espalier::extract {

/// Copies datasets of object stores, "s3://bucket/tasks.jsonl" or a prefix that holds some, into a
/// folder for temporary files and puts the copies in their places in `files`. The folder lives as
/// long as the result, which is null when all files are here. Throws `user` for what is not there.
std::unique_ptr<ScratchFolder> fetch_datasets(std::vector<std::filesystem::path>& files);

}  // namespace espalier::extract
