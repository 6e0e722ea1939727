// SPDX-License-Identifier: Apache-2.0
// The first op of a step that produced NaN.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>

#include "espalier/tensor/host_tensor.h"
#include "espalier/train/step.h"

namespace espalier::train {

/// Copies of everything a step keeps, by graph input.
using StateSnapshot = std::map<std::string, HostTensor>;
StateSnapshot snapshot(Step& step);

/// Runs `step`'s traced graph once more from `before`, op by op on the same backend, with a count
/// of NaNs beside every floating-point result. Returns "subtract f32[16,256] at layers.3.mlp" for
/// the first op that has one, or an empty text when none does (then fusion or the machine made it).
/// `batch` holds the batch inputs, by graph input.
std::string first_nan(Step& step, const StateSnapshot& before,
                      const std::map<std::string, const void*>& batch);

}  // namespace espalier::train
