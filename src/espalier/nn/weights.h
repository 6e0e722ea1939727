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
template <typename M>
std::vector<io::WantedTensor> wanted_tensors(const M& module) {
  std::vector<io::WantedTensor> wanted;
  std::map<std::string, size_t, std::less<>> places;
  for_each_param(module, [&](std::string_view path, const Param& p) {
    places.emplace(path, wanted.size());
    wanted.push_back({.path = std::string(path), .dtype = p.dtype, .shape = p.shape});
  });
  for_each_param(
      module,
      [&](std::string_view path, const Param& p) {
        const auto at = places.find(p.tied_to);
        if (!p.tied_to.empty() && at != places.end()) {
          wanted[at->second].also.emplace_back(path);
        }
      },
      Tied::visit);
  return wanted;
}

/// The values of every leaf by path, in the dtype of the files; see io::load_weights for errors.
template <typename M>
io::LoadedWeights load_weights(const M& module, const std::filesystem::path& path,
                               const io::WeightNames& names = {}) {
  return io::load_weights(path, wanted_tensors(module), names);
}

/// The values that a materialized tree owns, by path.
template <typename M>
std::map<std::string, HostTensor> values_of(const M& module) {
  std::map<std::string, HostTensor> values;
  for_each_param(module, [&](std::string_view path, const Param& p) {
    ESPALIER_CHECK(p.data.defined(), ErrorKind::user, "nn", "{} has no values yet; materialize it",
                   path);
    values.emplace(path, p.data);
  });
  return values;
}

}  // namespace espalier::nn
