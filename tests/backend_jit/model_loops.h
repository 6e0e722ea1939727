// SPDX-License-Identifier: Apache-2.0
// The loops of a transformer's training step.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tests/backend_jit/loop_case.h"

namespace espalier::cpu {

plan::Loop softmax_loop(DType dtype);
plan::Loop layer_norm_loop(DType dtype);
plan::Loop layer_norm_backward_loop();
plan::Loop dropout_loop();
plan::Loop cross_entropy_loop();
/// Operands 0..2: parameter, first and second moment; kAdamOutputs..: the same three, updated.
plan::Loop adam_loop();
inline constexpr int kAdamOutputs = 6;
plan::Loop gelu_loop(DType dtype);

std::vector<std::pair<std::string, plan::Loop>> model_loops();

}  // namespace espalier::cpu
