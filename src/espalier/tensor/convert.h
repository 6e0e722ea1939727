// SPDX-License-Identifier: Apache-2.0
// Conversion of whole arrays between dtypes.
#pragma once

#include "espalier/tensor/host_tensor.h"

namespace espalier {

/// Elements [first, first + to.numel()) of `from`, in row-major order, rounded to the dtype of `to`
/// as HostTensor::set does. Both are the caller's; `to` may have any shape.
void convert_values(const HostTensor& from, int64_t first, HostTensor to);

/// `count` values of f32, rounded to f32, bf16 or f16, to nearest even.
void round_values(const float* from, int64_t count, DType dtype, void* to);
/// `count` values of f32, bf16 or f16 as f32.
void widen_values(const void* from, DType dtype, int64_t count, float* to);
/// How many of `count` values of f32, bf16 or f16 are NaN or infinite.
int64_t count_not_finite(const void* values, DType dtype, int64_t count);

}  // namespace espalier
