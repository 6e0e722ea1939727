// SPDX-License-Identifier: Apache-2.0
// Weights in the layouts of kernels, kept in a file for the next process: mapped there, so that
// several processes share the memory.
#pragma once

#include <filesystem>

#include "espalier/backend/packed_weights.h"

namespace espalier::extract {

class PackCache {
 public:
  /// For the model in `model` (a folder or a file). An empty `folder`: nothing is kept.
  PackCache(std::filesystem::path folder, const std::filesystem::path& model);

  /// Hands over what is kept. A damaged file counts as none.
  void load(PackedWeights& packed);
  /// Writes the file where `packed` holds more than it.
  void save(const PackedWeights& packed);
  /// Of the model's files as they are now: their names, sizes and times of change.
  const std::filesystem::path& file() const { return file_; }

 private:
  std::filesystem::path file_;  // empty: none
  size_t kept_ = 0;             // entries in the file
};

}  // namespace espalier::extract
