// SPDX-License-Identifier: Apache-2.0
#include "espalier/tensor/convert.h"

#include <algorithm>
#include <cstring>

#include "espalier/base/error.h"
#include "espalier/base/processor.h"
#include "espalier/tensor/convert_kernels.h"

namespace espalier {
namespace detail {
namespace {

template <typename From, typename To, To (*fn)(From)>
void each(const From* from, int64_t count, To* to) {
  std::transform(from, from + count, to, fn);
}

template <typename Bits>
int64_t count_all_set(const Bits* values, int64_t count, Bits exponent) {
  return std::count_if(values, values + count,
                       [exponent](Bits value) { return (value & exponent) == exponent; });
}

}  // namespace

const ConvertKernels kConvertBaseline{
    each<float, uint16_t, to_bf16>,   each<float, uint16_t, to_f16>,
    each<uint16_t, float, from_bf16>, each<uint16_t, float, from_f16>,
    count_all_set<uint16_t>,          count_all_set<uint32_t>};

}  // namespace detail

namespace {

const detail::ConvertKernels& kernels() {
#if defined(__x86_64__)
  static const bool avx2 = __builtin_cpu_supports("avx2") && has_f16c();
  if (avx2) return detail::kConvertAvx2;
#endif
  return detail::kConvertBaseline;
}

}  // namespace

void round_values(const float* from, int64_t count, DType dtype, void* to) {
  switch (dtype) {
    case DType::bf16:
      return kernels().to_bf16(from, count, static_cast<uint16_t*>(to));
    case DType::f16:
      return kernels().to_f16(from, count, static_cast<uint16_t*>(to));
    default:
      ESPALIER_ASSERT(dtype == DType::f32);
      std::memcpy(to, from, static_cast<size_t>(count) * sizeof(float));
  }
}

void widen_values(const void* from, DType dtype, int64_t count, float* to) {
  switch (dtype) {
    case DType::bf16:
      return kernels().from_bf16(static_cast<const uint16_t*>(from), count, to);
    case DType::f16:
      return kernels().from_f16(static_cast<const uint16_t*>(from), count, to);
    default:
      ESPALIER_ASSERT(dtype == DType::f32);
      std::memcpy(to, from, static_cast<size_t>(count) * sizeof(float));
  }
}

int64_t count_not_finite(const void* values, DType dtype, int64_t count) {
  switch (dtype) {
    case DType::bf16:
      return kernels().count16(static_cast<const uint16_t*>(values), count, 0x7F80);
    case DType::f16:
      return kernels().count16(static_cast<const uint16_t*>(values), count, 0x7C00);
    default:
      ESPALIER_ASSERT(dtype == DType::f32);
      return kernels().count32(static_cast<const uint32_t*>(values), count, 0x7F800000);
  }
}

void convert_values(const HostTensor& from, int64_t first, HostTensor to) {
  ESPALIER_ASSERT(first >= 0 && first + to.numel() <= from.numel());
  const DType a = from.dtype(), b = to.dtype();
  const auto half = [](DType dtype) { return dtype == DType::bf16 || dtype == DType::f16; };
  const auto* source = static_cast<const std::byte*>(from.data()) + first * size_of(a);
  if (a == b) {
    std::memcpy(to.data(), source, static_cast<size_t>(to.bytes()));
  } else if (a == DType::f32 && half(b)) {
    round_values(reinterpret_cast<const float*>(source), to.numel(), b, to.data());
  } else if (half(a) && b == DType::f32) {
    widen_values(source, a, to.numel(), static_cast<float*>(to.data()));
  } else {
    for (int64_t i = 0; i < to.numel(); ++i) to.set(i, from.get(first + i));
  }
}

}  // namespace espalier
