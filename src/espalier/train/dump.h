// SPDX-License-Identifier: Apache-2.0
// The byte LM as text, at any stage between the model's code and the program that runs.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "espalier/train/byte_lm_options.h"

namespace espalier::train {

/// Stages in order: "traced", the canonical passes, "grad", the passes on the step, "fused",
/// "program".
std::vector<std::string> dump_stages();

/// Text of a stage. All but "program" parse back (ir::parse). Throws `user` with the nearest stage.
std::string dump_byte_lm(const ByteLmOptions& options, std::string_view stage);

}  // namespace espalier::train
