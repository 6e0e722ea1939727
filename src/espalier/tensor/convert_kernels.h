// SPDX-License-Identifier: Apache-2.0
// The loops of convert.h, once for the baseline and once for AVX2: the values are the same.
#pragma once

#include <cstdint>

namespace espalier::detail {

struct ConvertKernels {
  void (*to_bf16)(const float* from, int64_t count, uint16_t* to);
  void (*to_f16)(const float* from, int64_t count, uint16_t* to);
  void (*from_bf16)(const uint16_t* from, int64_t count, float* to);
  void (*from_f16)(const uint16_t* from, int64_t count, float* to);
  /// Values whose bits under `exponent` are all set.
  int64_t (*count16)(const uint16_t* values, int64_t count, uint16_t exponent);
  int64_t (*count32)(const uint32_t* values, int64_t count, uint32_t exponent);
};

extern const ConvertKernels kConvertBaseline;
extern const ConvertKernels kConvertAvx2;

}  // namespace espalier::detail
