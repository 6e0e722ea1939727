// SPDX-License-Identifier: Apache-2.0
// Names of dtypes as flags and config.json write them.
#pragma once

#include <string_view>

#include "espalier/tensor/dtype.h"

namespace espalier {

/// float32, bfloat16, float16, float64, int32, int64, uint8, boolean.
std::string_view long_name(DType dtype);

}  // namespace espalier
