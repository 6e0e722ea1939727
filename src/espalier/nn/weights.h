// SPDX-License-Identifier: Apache-2.0
// Module trees and folders of weights (io/weights.h).
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "espalier/io/weights.h"
#include "espalier/nn/module.h"

namespace espalier::nn {

/// The leaves of a tree; second paths of tied leaves are further names of theirs.
std::vector<io::WantedTensor> wanted_tensors(const std::vector<LeafEntry>& all_leaves);
template <IsModule M>
std::vector<io::WantedTensor> wanted_tensors(const M& module) {
  return wanted_tensors(leaves_of(module, Tied::visit));
}

/// The values of every leaf by path, in the dtype of the files; see io::load_weights for errors.
template <IsModule M>
io::LoadedWeights load_weights(const M& module, const std::filesystem::path& path,
                               const io::WeightNames& names = {}) {
  return io::load_weights(path, wanted_tensors(module), names);
}

/// The values that a materialized tree owns, by path.
std::map<std::string, HostTensor> values_of(const std::vector<LeafEntry>& leaves);
template <IsModule M>
std::map<std::string, HostTensor> values_of(const M& module) {
  return values_of(leaves_of(module));
}

}  // namespace espalier::nn
