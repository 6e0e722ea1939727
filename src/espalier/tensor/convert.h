// SPDX-License-Identifier: Apache-2.0
// Conversion of whole arrays between dtypes.
#pragma once

#include "espalier/tensor/host_tensor.h"

namespace espalier {

/// Elements [first, first + to.numel()) of `from`, in row-major order, rounded to the dtype of `to`
/// as HostTensor::set does. Both are the caller's; `to` may have any shape.
void convert_values(const HostTensor& from, int64_t first, HostTensor to);

}  // namespace espalier
