// SPDX-License-Identifier: Apache-2.0
// One elementwise operation of the loop evaluator: value and error bound from those of its
// arguments.
#pragma once

#include "espalier/plan/loop_eval.h"

namespace espalier::plan {

/// exact: the value carries no rounding of the operation. basic: rounded once, correctly, in the
/// register. inexact: rounded once, but the exact value is not known here.
enum class LoopRounding { exact, basic, inexact };

/// Rounds `real` as an instruction of `dtype` does and grows its bound accordingly.
LoopReal finish_op(DType dtype, LoopReal real, LoopRounding rounding);
LoopReal convert_real(DType from, DType to, const LoopReal& x);
/// Any operation but leaves, uniform, reductions and sinks.
LoopReal evaluate_op(const LoopInst& inst, const LoopReal* args, const DType* types,
                     const LoopErrorModel& model);

}  // namespace espalier::plan
