// SPDX-License-Identifier: Apache-2.0
#include "espalier/nn/weights.h"

#include "espalier/base/error.h"

namespace espalier::nn {

std::vector<io::WantedTensor> wanted_tensors(const std::vector<LeafEntry>& all_leaves) {
  std::vector<io::WantedTensor> wanted;
  std::map<std::string, size_t, std::less<>> places;
  for (const auto& [path, leaf] : all_leaves) {
    if (!leaf->tied_to.empty()) continue;
    places.emplace(path, wanted.size());
    wanted.push_back({.path = path, .dtype = leaf->dtype, .shape = leaf->shape});
  }
  for (const auto& [path, leaf] : all_leaves) {
    if (leaf->tied_to.empty()) continue;
    const auto at = places.find(leaf->tied_to);
    if (at != places.end()) wanted[at->second].also.push_back(path);
  }
  return wanted;
}

std::map<std::string, HostTensor> values_of(const std::vector<LeafEntry>& leaves) {
  std::map<std::string, HostTensor> values;
  for (const auto& [path, leaf] : leaves) {
    ESPALIER_CHECK(leaf->data.defined(), ErrorKind::user, "nn",
                   "{} has no values yet; materialize it", path);
    values.emplace(path, leaf->data);
  }
  return values;
}

}  // namespace espalier::nn
