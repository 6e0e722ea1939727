// SPDX-License-Identifier: Apache-2.0
#include "espalier/tensor/dtype.h"

#include <array>
#include <cmath>

#include "espalier/tensor/dtype_names.h"

namespace espalier {
namespace {
struct Row {
  DType dtype;
  std::string_view name;
  std::string_view long_name;
};
constexpr std::array<Row, 8> kRows{{{DType::f32, "f32", "float32"},
                                    {DType::bf16, "bf16", "bfloat16"},
                                    {DType::f16, "f16", "float16"},
                                    {DType::f64, "f64", "float64"},
                                    {DType::i32, "i32", "int32"},
                                    {DType::i64, "i64", "int64"},
                                    {DType::u8, "u8", "uint8"},
                                    {DType::boolean, "bool", "boolean"}}};
}  // namespace

std::string_view name(DType dtype) { return kRows[static_cast<size_t>(dtype)].name; }

std::string_view long_name(DType dtype) { return kRows[static_cast<size_t>(dtype)].long_name; }

std::optional<DType> parse_dtype(std::string_view text) {
  for (const Row& row : kRows) {
    if (text == row.name || text == row.long_name) return row.dtype;
  }
  return std::nullopt;
}

double unit_roundoff(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return 0x1p-53;
    case DType::f32:
      return 0x1p-24;
    case DType::f16:
      return 0x1p-11;
    case DType::bf16:
      return 0x1p-8;
    default:
      return 0.0;
  }
}

uint16_t to_f16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const uint32_t magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) return static_cast<uint16_t>(sign | 0x7E00u);
  if (magnitude >= 0x477FF000u) return static_cast<uint16_t>(sign | 0x7C00u);  // 65520 and above
  if (magnitude < 0x38800000u) {  // below 2^-14: a multiple of 2^-24
    const float scaled = std::bit_cast<float>(magnitude) * 0x1p24f;
    return static_cast<uint16_t>(sign | static_cast<uint16_t>(std::nearbyint(scaled)));
  }
  const uint32_t rounded = magnitude + 0xFFFu + ((magnitude >> 13) & 1u);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

float from_f16(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t exponent = (bits >> 10) & 0x1Fu;
  const uint32_t mantissa = bits & 0x3FFu;
  if (exponent == 0) {
    const float value = static_cast<float>(mantissa) * 0x1p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(value));
  }
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7F800000u | (mantissa << 13));
  return std::bit_cast<float>(sign | ((exponent + 112u) << 23) | (mantissa << 13));
}

double round_to(DType dtype, double value) {
  switch (dtype) {
    case DType::f64:
      return value;
    case DType::f32:
      return static_cast<double>(static_cast<float>(value));
    case DType::bf16:
    case DType::f16: {
      // Round to odd on the way through f32, so that the second rounding sees what was cut off.
      float f = static_cast<float>(value);
      if (std::isfinite(f) && static_cast<double>(f) != value) {
        const bool away = std::abs(static_cast<double>(f)) > std::abs(value);
        uint32_t bits = std::bit_cast<uint32_t>(f);
        if (away) bits -= 1;
        f = std::bit_cast<float>(bits | 1u);
      }
      return dtype == DType::bf16 ? from_bf16(to_bf16(f)) : from_f16(to_f16(f));
    }
    case DType::boolean:
      return value != 0.0 ? 1.0 : 0.0;
    case DType::u8:
      return static_cast<double>(static_cast<uint8_t>(static_cast<int64_t>(value)));
    case DType::i32:
      return static_cast<double>(static_cast<int32_t>(value));
    case DType::i64:
      return static_cast<double>(static_cast<int64_t>(value));
  }
  return value;
}

}  // namespace espalier
