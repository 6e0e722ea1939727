// SPDX-License-Identifier: Apache-2.0
// Element types and the conversions between their bit patterns.
#pragma once

#include <bit>
#include <cstdint>
#include <optional>
#include <string_view>

namespace espalier {

enum class DType : uint8_t { f32, bf16, f16, f64, i32, i64, u8, boolean };

/// Bytes of one element.
constexpr int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
    case DType::i64:
      return 8;
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::bf16:
    case DType::f16:
      return 2;
    case DType::u8:
    case DType::boolean:
      break;
  }
  return 1;
}

constexpr bool is_float(DType dtype) {
  return dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::f16 || dtype == DType::f64;
}

/// Short name: f32, bf16, f16, f64, i32, i64, u8, bool.
std::string_view name(DType dtype);
/// Accepts the short names and float32, bfloat16, float16, float64, int32, int64, uint8.
std::optional<DType> parse_dtype(std::string_view text);
/// Unit roundoff (half the distance from 1 to the next value) of a float type; 0 for integers.
double unit_roundoff(DType dtype);

/// bfloat16 from f32, round to nearest even; NaN stays NaN.
constexpr uint16_t to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}
constexpr float from_bf16(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

/// IEEE binary16 from f32, round to nearest even, with subnormals; overflow gives infinity.
uint16_t to_f16(float value);
float from_f16(uint16_t bits);

/// The nearest value of `dtype` to `value` (round to nearest even, integers truncate).
double round_to(DType dtype, double value);

}  // namespace espalier
