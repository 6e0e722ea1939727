// SPDX-License-Identifier: Apache-2.0
#include "espalier/tensor/convert.h"

#include <algorithm>
#include <cstring>

#include "espalier/base/error.h"

namespace espalier {
namespace {

/// The pairs of files and parameters; fn is inlined and, for bf16, vectorized.
template <typename From, typename To, typename Fn>
void each(const HostTensor& from, int64_t first, HostTensor& to, Fn fn) {
  const auto source =
      from.as<From>().subspan(static_cast<size_t>(first), static_cast<size_t>(to.numel()));
  std::transform(source.begin(), source.end(), to.as<To>().begin(), fn);
}

}  // namespace

void convert_values(const HostTensor& from, int64_t first, HostTensor to) {
  ESPALIER_ASSERT(first >= 0 && first + to.numel() <= from.numel());
  const DType a = from.dtype(), b = to.dtype();
  if (a == b) {
    std::memcpy(to.data(), static_cast<const std::byte*>(from.data()) + first * size_of(a),
                static_cast<size_t>(to.bytes()));
  } else if (a == DType::f32 && b == DType::bf16) {
    each<float, uint16_t>(from, first, to, [](float v) { return to_bf16(v); });
  } else if (a == DType::f32 && b == DType::f16) {
    each<float, uint16_t>(from, first, to, [](float v) { return to_f16(v); });
  } else if (a == DType::bf16 && b == DType::f32) {
    each<uint16_t, float>(from, first, to, [](uint16_t v) { return from_bf16(v); });
  } else if (a == DType::f16 && b == DType::f32) {
    each<uint16_t, float>(from, first, to, [](uint16_t v) { return from_f16(v); });
  } else {
    for (int64_t i = 0; i < to.numel(); ++i) to.set(i, from.get(first + i));
  }
}

}  // namespace espalier
