// SPDX-License-Identifier: Apache-2.0
// What a loop means: a plain evaluator, in double for floats and exact for integers, with a bound
// on how far correct compiled code may be from it. Slow; for tests.
//
// The bound follows the computation (running error analysis, Higham 2002, section 3.3): each
// operation passes on the errors of its arguments by its derivative and adds its own rounding.
// Chains of exactly rounded operations on exact values have bound 0: they are compared bit for bit.
#pragma once

#include <cstdint>
#include <vector>

#include "espalier/plan/loop.h"

namespace espalier::plan {

struct LoopReal {
  double value = 0.0;   // of floats
  int64_t integer = 0;  // of integers and bool
  double error = 0.0;   // |computed - value| <= error; infinity: anything may come out
};

/// One element of an output or accumulator after the call.
struct LoopResult {
  int operand = -1;
  int64_t offset = 0;  // elements from the operand's pointer
  LoopReal real;
};

struct LoopErrorModel {
  double function_ulps = 3.0;  // of exp, log, tanh, erf, sin, cos, pow
  int64_t sum_lanes = 8;       // partial sums of a row reduction, at least
};

/// Evaluates the call without touching the operands' memory. Results are in no special order, each
/// element once.
std::vector<LoopResult> evaluate_loop(const Loop& loop, const LoopCall& call,
                                      const LoopErrorModel& model = {});

}  // namespace espalier::plan
